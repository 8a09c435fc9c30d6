"""Tracks of a trial's own, where a sweep searches preprocess' parameters.

Clips go through the same steps under the same keys as in the stage, so what does not depend on the values that the trial
changed comes from the cache, and what it computes is there for the stage afterwards.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from pipelines.cache import Cache, Entry
from pipelines.fanout import FanOutResult, Item, ItemRejected, Step, Work
from pipelines.fanout.here import entries_here
from pipelines.heads import load_head
from pipelines.params import Params
from pipelines.preprocess import clip_items, preprocess_steps, together_step
from pipelines.preprocess.assemble import write_head, write_outs
from pipelines.preprocess.together import FIT_TOGETHER, camera_groups


@contextmanager
def own_tracks(cache: Cache, params: Params, catalog: pa.Table, root: Path) -> Iterator[Path]:
    """A folder with data/frames and data/tracks of the catalog's clips, removed when the block ends."""
    shutil.rmtree(root, ignore_errors=True)
    steps = preprocess_steps(params)
    result = FanOutResult("preprocess", steps)
    workers: dict[str, Work] = {}
    for item in sorted(clip_items(catalog, params.preprocess), key=lambda item: item.id):
        entries = brought_through(cache, steps, item, workers)
        if entries is not None:
            result.entries[item.id] = entries
    head = load_head(params.preprocess.head, params.preprocess.head_file)
    together = FanOutResult(FIT_TOGETHER, [together_step(params, head)])
    for group in camera_groups(catalog, result)[0]:
        entries = brought_through(cache, together.steps, group, workers)
        if entries is not None:
            together.entries[group.id] = entries
    workers.clear()
    try:
        write_head(head, root)
        write_outs(result, together, root)
        yield root
    finally:
        shutil.rmtree(root, ignore_errors=True)


def brought_through(cache: Cache, steps: Sequence[Step], item: Item, workers: dict[str, Work]) -> list[Entry] | None:
    """The entry of each step for a clip, computed where it is not there; None for a clip that ends in quarantine."""
    try:
        return entries_here(cache, steps, item, workers)
    except ItemRejected:
        return None
