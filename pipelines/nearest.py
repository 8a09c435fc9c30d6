"""What is said of a name that is not known."""

from __future__ import annotations

import difflib
from collections.abc import Collection

NAMED = 20
"""Names that a message lists."""


def did_you_mean(name: str, known: Collection[str], none: str = "") -> str:
    """The nearest of the known names, and the first of all in their order; `none` where there is none at all."""
    if not known:
        return none
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
    more = f" and {len(known) - NAMED} more" if len(known) > NAMED else ""
    return f"Did you mean {near!r}? There are: {', '.join(list(known)[:NAMED])}{more}"
