"""The steps of one item in this process, under the keys of a fan-out: what either has computed, the other finds."""

from __future__ import annotations

import time
from collections.abc import Sequence

from pipelines.cache import Cache, DamagedEntry, Entry, Failure
from pipelines.fanout.item import Item, ItemRejected, Step, Work, chain_keys


def entries_here(cache: Cache, steps: Sequence[Step], item: Item, workers: dict[str, Work]) -> list[Entry]:
    """The entry of each step for an item, computed where it is not there. `workers` keeps those that were needed, by the
    step's name.

    Raises ItemRejected, also for an item that a fan-out has in quarantine, and DamagedEntry for what the step before has left:
    it is forgotten, so that another call makes it again.
    """
    entries: list[Entry] = []
    for step, key in zip(steps, chain_keys(steps, item), strict=True):
        found = cache.find(key)
        if isinstance(found, Failure):
            raise ItemRejected(found.reason, found.message)
        if found is None:
            if step.name not in workers:
                workers[step.name] = step.worker(step.params)
            start, writer = time.perf_counter(), cache.writer(key)
            try:
                summary = workers[step.name](item, entries[-1] if entries else None, writer)
            except DamagedEntry as error:
                cache.forget(error.key)
                raise
            writer.commit(summary, time.perf_counter() - start)
            found = cache.find(key)
            assert isinstance(found, Entry)
        entries.append(found)
    return entries
