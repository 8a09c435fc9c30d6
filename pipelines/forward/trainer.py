"""The item function of the distill_forward stage: one forward field."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from avatar_models.heads.nphm.forward_storage import forward_files
from avatar_models.heads.nphm.surface import SurfaceError
from avatar_models.model_folder import TENSORS, ModelError
from pipelines.atomic import sha256_file
from pipelines.cache import Entry, EntryWriter
from pipelines.devices import device_here
from pipelines.fanout import Item, ItemRejected
from pipelines.fleet.trainer import Trainer
from pipelines.forward.setup import ForwardRun, Recipe
from pipelines.params import Fleet

VERSION = 1
ELSEWHERE = ("checkpoint_every",)
"""Options that change nothing."""


class ForwardTrainer:
    """Distils a field and judges it. One item, one actor. `storage` is where Ray Train's checkpoints lie."""

    def __init__(self, params: Mapping[str, Any], recipe: Recipe, fleet: Fleet, storage: str) -> None:
        self.recipe, self.trainer = recipe, Trainer(recipe, fleet, storage, "compute.forward")

    def __call__(self, item: Item, upstream: Entry | None, out: EntryWriter) -> dict[str, Any]:
        try:
            run = self.recipe.prepare(device_here())
        except (ModelError, SurfaceError) as error:
            raise ItemRejected("no_prior", str(error)) from None
        self.trainer.train(run, out)
        return write(run, sha256_file(Path(self.recipe.prior) / TENSORS), out)


def write(run: ForwardRun, prior: str, out: EntryWriter) -> dict[str, Any]:
    """Writes the field and its curve; returns the entry's summary. prior: sha256 of its weights."""
    options, distilled = run.options, run.training.distilled.eval()
    figures = {"known_mm": round(1e3 * run.error(run.people), 4), "held_out_mm": round(1e3 * run.error(run.held_out), 4)}
    facts: dict[str, Any] = {
        "options": {name: value for name, value in options.as_key().items() if name not in ELSEWHERE},
        **figures,
    }
    for name, data in forward_files(distilled.field, distilled.planes, run.people.names, prior, facts).items():
        out.write_bytes(name, data)
    out.write_bytes("curve.json", json.dumps(run.training.curve).encode())
    return {"loss": round(run.training.curve[-1]["loss"], 6), "steps": run.training.step, **figures}
