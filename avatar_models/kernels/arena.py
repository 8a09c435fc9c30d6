"""Arrays on memory that is used again.

A fresh large array costs a page fault for every 4 kB that is written, which is more than the kernels' own time. Blocks go
back to a pool when the last array or tensor on them is gone. The pool keeps up to KEPT_BYTES; for more, it lets go of the
sizes that nobody has asked for longest.
"""

from __future__ import annotations

import math
import os
import threading
from collections import OrderedDict, deque
from itertools import accumulate
from typing import Any

import numpy as np

KEPT_BYTES = 256 * 1024**2
"""Idle memory that the pool keeps."""

LINE = 64
"""Bytes of a cache line."""


class Pool:
    """Idle buffers by size, the size that was used last at the end."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.idle: OrderedDict[int, list[np.ndarray]] = OrderedDict()
        self.bytes = 0
        self.returned: deque[np.ndarray] = deque()
        self.lock = threading.Lock()

    def take(self, size: int) -> np.ndarray:
        """A buffer of just `size` bytes."""
        with self.lock:
            self._put_away()
            buffers = self.idle.get(size)
            if buffers:
                self.idle.move_to_end(size)
                self.bytes -= size
                return buffers.pop()
        return np.empty(size, np.uint8)

    def give_back(self, buffer: np.ndarray) -> None:
        """Called as an array dies, which may be anywhere, inside of `take` too: so it never waits for the lock."""
        self.returned.append(buffer)
        if self.lock.acquire(blocking=False):
            try:
                self._put_away()
            finally:
                self.lock.release()

    def _put_away(self) -> None:
        while self.returned:
            buffer = self.returned.popleft()
            size = len(buffer)
            if size > self.most:
                continue
            while self.bytes + size > self.most:
                longest, buffers = next(iter(self.idle.items()))
                if buffers:
                    buffers.pop()
                    self.bytes -= longest
                else:
                    del self.idle[longest]
            self.idle.setdefault(size, []).append(buffer)
            self.idle.move_to_end(size)
            self.bytes += size


_pool = Pool(KEPT_BYTES)


def _new_pool() -> None:
    global _pool
    _pool = Pool(KEPT_BYTES)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_pool)  # another thread of the parent may have held the lock


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
        _pool.give_back(self.buffer)


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
    return np.asarray(_Block(_pool.take(_size_class(size + LINE))))


def _size_class(size: int) -> int:
    """Sizes in steps of an eighth of a power of two, so that scenes of nearly the same size share blocks."""
    step = max(4096, 1 << max(0, size.bit_length() - 4))
    return -(-size // step) * step
