"""Reads batches ahead in threads: decoding lets go of Python's lock."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from pipelines.oneshot.pairs import Batch, Pairs


def read_ahead(pairs: Pairs, wanted: Iterator[Sequence[tuple[int, int]]], threads: int, ahead: int = 4) -> Iterator[Batch]:
    """Batches in order, up to `ahead` of them decoded before they are asked for."""
    with ThreadPoolExecutor(threads, thread_name_prefix="read-ahead") as pool:
        waiting: deque[Future[Batch]] = deque()
        try:
            for some in wanted:
                waiting.append(pool.submit(pairs.batch, some))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for batch in waiting:
                batch.cancel()
