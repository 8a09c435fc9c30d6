"""Stages without Ray, DVC and MLflow: each step is called here, its results kept in a cache as ever."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipelines.cache import Cache, Entry
from pipelines.catalog import catalog_table, probe_step, video_items
from pipelines.fanout import FanOutResult, Item, Step
from pipelines.fanout.item import chain_keys
from pipelines.heads import load_head
from pipelines.params import Params
from pipelines.preprocess import clip_items, preprocess_steps
from pipelines.preprocess.assemble import write_head
from pipelines.preprocess.together import FIT_TOGETHER
from pipelines.sources import list_clips
from pipelines.training_items import training_items, training_step
from stages import preprocess


def do_all(stage: str, steps: Sequence[Step], items: Sequence[Item], cache: Path) -> FanOutResult:
    """What a fan-out leaves where nothing fails."""
    store, result, workers = Cache(str(cache)), FanOutResult(stage, steps), [step.worker(step.params) for step in steps]
    for item in sorted(items, key=lambda item: item.id):
        entries: list[Entry] = []
        for work, key in zip(workers, chain_keys(steps, item), strict=True):
            writer = store.writer(key)
            writer.commit(work(item, entries[-1] if entries else None, writer), 0.0)
            found = store.find(key)
            assert isinstance(found, Entry)
            entries.append(found)
        result.entries[item.id] = entries
    return result


def catalog_to_avatars(params: Params) -> FanOutResult:
    """catalog, preprocess and train_headgas of the project in the working directory; what training left."""
    cache = Path(params.compute.cache)
    probed = do_all("catalog", [probe_step(params.compute)], video_items(list_clips(params.source).clips), cache)
    catalog, quarantined = catalog_table(probed)
    assert not quarantined.num_rows
    write_head(load_head(params.preprocess.head, params.preprocess.head_file))
    tracked = do_all("preprocess", preprocess_steps(params), clip_items(catalog, params.preprocess), cache)
    preprocess.assemble(tracked, FanOutResult(FIT_TOGETHER, []))
    return do_all("train_headgas", [training_step(params)], training_items(), cache)
