"""Measurements: each module is a command, `python -m bench.NAME`, that prints its figures."""

import avatar_models  # noqa: F401  sets how torch's threads wait, before torch is loaded
