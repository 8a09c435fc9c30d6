"""Who is trained, and under which key: shared by the train_headgas stage and sweeps, so each finds the other's avatars."""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

from pipelines import tables
from pipelines.fanout import Item, Step
from pipelines.keys import digest
from pipelines.params import Params
from pipelines.perceptual_asset import perceptual_asset, perceptual_is_off
from pipelines.subject import TRACKS_FOLDER
from pipelines.training import VERSION, HeadGasTrainer


def training_items(root: Path = Path(), tracks: Path = TRACKS_FOLDER) -> list[Item]:
    """An item for each subject with a segment that passed in some tracks; it depends on all of the subject's segments."""
    segments = tables.read_table(root / tracks / "segments.parquet", tables.SEGMENTS)
    passed = segments.filter(segments["passed"]).select(["subject_id", "fingerprint"]).to_pylist()
    content: dict[str, list[str]] = defaultdict(list)
    for row in passed:
        content[row["subject_id"]].append(row["fingerprint"])
    return [Item(subject, digest(sorted(content[subject]))) for subject in sorted(content)]


def training_step(params: Params, root: Path = Path()) -> Step:
    """How often a checkpoint is written and where data and the perceptual weights lie stay out of the key: the first two change
    nothing, and of the weights the content counts."""
    options: dict[str, Any] = {"train_headgas": params.train_headgas.as_key(), "test_fraction": params.catalog.test_fraction}
    every, weights = (options["train_headgas"].pop(name) for name in ("checkpoint_every", "perceptual_weights"))
    there = not perceptual_is_off(params.train_headgas)
    worker = partial(
        HeadGasTrainer, checkpoint_every=every, perceptual_weights=str(Path(weights).resolve()) if there else "", root=root
    )
    assets = perceptual_asset(params.train_headgas)
    return Step("train_headgas", VERSION, worker, options, params.compute.train, assets)
