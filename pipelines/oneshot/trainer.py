"""The item function of the train_oneshot stage: one model of all subjects."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from avatar_models.gagavatar.storage import model_files
from pipelines.cache import Entry, EntryWriter
from pipelines.devices import device_here
from pipelines.fanout import Item
from pipelines.fleet.trainer import Trainer
from pipelines.oneshot.setup import OF_A_FRESH_MODEL, Recipe, Setup
from pipelines.params import Fleet

VERSION = 7


class OneshotTrainer:
    """Trains the model. One item, one actor. `storage` is where Ray Train's checkpoints lie: a folder or URI of all nodes."""

    def __init__(self, params: Mapping[str, Any], recipe: Recipe, fleet: Fleet, storage: str) -> None:
        self.recipe, self.trainer = recipe, Trainer(recipe, fleet, storage, "compute.oneshot")

    def __call__(self, item: Item, upstream: Entry | None, out: EntryWriter) -> dict[str, Any]:
        setup = self.recipe.prepare(device_here())
        if self.trainer.fleet.count == 1:  # where there are more, this one does not train
            setup.training.expect_machine()
        self.trainer.train(setup, out)
        return write(setup, out)


def write(setup: Setup, out: EntryWriter) -> dict[str, Any]:
    """Writes the averaged model, the curve and the pictures; returns the entry's summary."""
    training, frames = setup.training, setup.pairs.frames
    meaningless = OF_A_FRESH_MODEL if training.options.start_from else ()
    identity = setup.data.identities.slice(0, 1).to_pylist()[0]
    facts = {
        "head": identity["head"],
        "head_hash": identity["head_hash"],
        "options": training.options.model_dump(mode="json", exclude={"backbone_weights", "start_from", *meaningless}),
        "frames": len(frames),
        "clips": len(frames.clip_ids),
        "perceptual_loss": training.features is not None,
        "frozen_backbone": not any(weight.requires_grad for weight in training.model.encoder.vit.parameters()),
    }
    for name, data in model_files(training.average, setup.chosen, facts).items():
        out.write_bytes(name, data)
    out.write_bytes("curve.json", json.dumps(training.curve).encode())
    for name, data in setup.pictures().items():
        out.write_bytes(name, data)
    last = training.curve[-1]
    figures: dict[str, Any] = {name: round(last[name], 4) for name in ("loss", "held_out_psnr", "copy_psnr") if name in last}
    return {**figures, "steps": training.step, "frames": len(frames), "clips": len(frames.clip_ids)}
