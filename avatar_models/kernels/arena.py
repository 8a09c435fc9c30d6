"""Arrays on memory that is used again.

A fresh large array costs a page fault for every 4 kB that is written, which is more than the kernels' own time. Blocks go
back to a pool when the last array or tensor on them is gone, up to KEPT_BYTES in all.
"""

from __future__ import annotations

import math
from collections import defaultdict
from itertools import accumulate
from typing import Any

import numpy as np

KEPT_BYTES = 256 * 1024**2
"""Idle memory that the pool keeps; what comes back beyond it is given to the system."""

LINE = 64
"""Bytes of a cache line."""

_idle: dict[int, list[np.ndarray]] = defaultdict(list)
_idle_bytes = 0


class _Block:
    """Owns a buffer while any array is built on it: numpy keeps the object that `__array_interface__` came from."""

    __slots__ = ("__array_interface__", "buffer")

    def __init__(self, buffer: np.ndarray) -> None:
        self.buffer = buffer
        address = buffer.ctypes.data
        start = -address % LINE
        self.__array_interface__ = {
            "data": (address + start, False),
            "shape": (len(buffer) - start,),
            "typestr": "|u1",
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
    kind = np.dtype(dtype)
    size = math.prod(shape) * kind.itemsize
    return _block(size)[:size].view(kind).reshape(shape)


def empty_together(*shapes: tuple[int, ...]) -> list[np.ndarray]:
    """float32 arrays of any content that live and die together, each on a cache line's boundary."""
    sizes = [4 * math.prod(shape) for shape in shapes]
    ends = list(accumulate(size + -size % LINE for size in sizes))
    block = _block(ends[-1])
    starts = (0, *ends)
    return [
        block[start : start + size].view(np.float32).reshape(shape)
        for start, size, shape in zip(starts, sizes, shapes, strict=False)
    ]


def zeros_together(*shapes: tuple[int, ...]) -> list[np.ndarray]:
    """float32 arrays of zeros that live and die together."""
    arrays = empty_together(*shapes)
    for array in arrays:
        array.fill(0)
    return arrays


def _block(size: int) -> np.ndarray:
    """At least `size` bytes."""
    global _idle_bytes
    size = _size_class(size + LINE)
    try:
        buffer = _idle[size].pop()
        _idle_bytes -= size
    except IndexError:
        buffer = np.empty(size, np.uint8)
    return np.asarray(_Block(buffer))


def _size_class(size: int) -> int:
    """Sizes in steps of an eighth of a power of two, so that scenes of nearly the same size share blocks."""
    step = max(4096, 1 << max(0, size.bit_length() - 4))
    return -(-size // step) * step
