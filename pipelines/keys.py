"""The key of a result: a digest of all that it depends on, and of nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np


def canonical_json(value: Any) -> bytes:
    """The one byte string of a JSON value: sorted keys, no spaces. Raises ValueError for NaN and infinities."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def digest(value: Any) -> str:
    """sha256 of a JSON value."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def digest_arrays(arrays: Iterable[np.ndarray]) -> str:
    """sha256 of arrays' types, shapes and bytes."""
    found = hashlib.sha256()
    for array in arrays:
        found.update(f"{array.dtype.str}{array.shape}".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def content_key(*, step: str, version: int, params: Mapping[str, Any], assets: Mapping[str, str], inputs: str) -> str:
    """Key of one step's result for one item.

    `params` are those that the step reads, `assets` maps the files it loads to their sha256, `inputs` is the item's
    content fingerprint or, further down a chain, the key of the step before.
    """
    return digest({"step": step, "version": version, "params": params, "assets": assets, "inputs": inputs})
