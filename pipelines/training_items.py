"""Who is trained, and under which key: shared by the train_headgas stage and sweeps, so each finds the other's avatars."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from pipelines import tables
from pipelines.fanout import Item, Step
from pipelines.keys import digest
from pipelines.params import Params
from pipelines.splits import subjects_that_passed
from pipelines.subject import TRACKS_FOLDER
from pipelines.training import VERSION, HeadGasTrainer


def training_items(root: Path = Path()) -> list[Item]:
    """An item for each subject with a segment that passed; it depends on all of the subject's segments."""
    segments = tables.read_table(root / TRACKS_FOLDER / "segments.parquet", tables.SEGMENTS)
    rows = [row for row in segments.to_pylist() if row["passed"]]
    found = []
    for subject in subjects_that_passed(segments):
        own = [row for row in rows if row["subject_id"] == subject]
        found.append(Item(subject, digest(sorted(row["fingerprint"] for row in own))))
    return found


def training_step(params: Params, root: Path = Path()) -> Step:
    options: dict[str, Any] = {"train_headgas": params.train_headgas.as_key(), "test_fraction": params.catalog.test_fraction}
    # How often a checkpoint is written changes nothing in the result, so it is kept out of the key; so does where data lie.
    every = options["train_headgas"].pop("checkpoint_every")
    worker = partial(HeadGasTrainer, checkpoint_every=every, root=root)
    return Step("train_headgas", VERSION, worker, options, params.compute.train)
