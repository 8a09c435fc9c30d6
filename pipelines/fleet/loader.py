"""Reads batches ahead in threads: decoding, and numpy's and torch's operations, let go of Python's lock."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Wanted = TypeVar("Wanted")
Batch = TypeVar("Batch")


def read_ahead(read: Callable[[Wanted], Batch], wanted: Iterator[Wanted], threads: int, ahead: int = 4) -> Iterator[Batch]:
    """Batches in order, up to `ahead` of them read before they are asked for."""
    with ThreadPoolExecutor(threads, thread_name_prefix="read-ahead") as pool:
        waiting: deque[Future[Batch]] = deque()
        try:
            for some in wanted:
                waiting.append(pool.submit(read, some))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for batch in waiting:
                batch.cancel()


def reading_threads(num_cpus: float) -> int:
    """Threads that read ahead, beside so many cores that train."""
    return max(1, min(8, round(num_cpus)))
