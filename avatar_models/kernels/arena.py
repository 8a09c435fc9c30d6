"""Arrays on memory that is used again.

A fresh large array costs a page fault for every 4 kB that is written, which is more than the kernels' own time. Blocks go
back to a pool when the last array or tensor on them is gone, up to KEPT_BYTES in all.
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import numpy as np

KEPT_BYTES = 256 * 1024**2
"""Idle memory that the pool keeps; what comes back beyond it is given to the system."""

_idle: dict[int, list[np.ndarray]] = defaultdict(list)
_idle_bytes = 0


class _Block:
    """Owns a buffer while any array is built on it: numpy keeps the object that `__array_interface__` came from."""

    __slots__ = ("__array_interface__", "buffer")

    def __init__(self, buffer: np.ndarray, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.buffer = buffer
        address = buffer.ctypes.data
        self.__array_interface__ = {
            "data": (address + -address % 64, False),
            "shape": shape,
            "typestr": dtype.str,
            "version": 3,
        }

    def __del__(self) -> None:
        global _idle_bytes
        size = len(self.buffer)
        if _idle_bytes + size <= KEPT_BYTES:
            _idle_bytes += size
            _idle[size].append(self.buffer)


def empty(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    """An array of any content on a cache line's boundary."""
    global _idle_bytes
    kind = np.dtype(dtype)
    size = _size_class(math.prod(shape) * kind.itemsize + 64)
    try:
        buffer = _idle[size].pop()
        _idle_bytes -= size
    except IndexError:
        buffer = np.empty(size, np.uint8)
    return np.asarray(_Block(buffer, shape, kind))


def zeros(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    """An array of zeros."""
    array = empty(*shape, dtype=dtype)
    array.fill(0)
    return array


def _size_class(size: int) -> int:
    """Sizes in steps of an eighth of a power of two, so that scenes of nearly the same size share blocks."""
    step = max(4096, 1 << max(0, size.bit_length() - 4))
    return -(-size // step) * step
