"""The item function of the train_nphm stage: one prior."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from avatar_models.heads.nphm.storage import nphm_files
from pipelines.cache import Entry, EntryWriter
from pipelines.devices import device_here
from pipelines.fanout import Item, ItemRejected
from pipelines.fleet.trainer import Trainer
from pipelines.heads import HeadError
from pipelines.params import Fleet
from pipelines.prior.card import card
from pipelines.prior.evaluation import THOROUGH, fit_errors
from pipelines.prior.setup import NEUTRAL, PriorRun, Recipe

VERSION = 1
ELSEWHERE = ("checkpoint_every", "head_file")
"""Options that change nothing, or of which the content counts."""
CARD = "README.md"


class PriorTrainer:
    """Trains the prior and judges it. One item, one actor. `storage` is where Ray Train's checkpoints lie."""

    def __init__(self, params: Mapping[str, Any], recipe: Recipe, fleet: Fleet, storage: str) -> None:
        self.recipe, self.trainer = recipe, Trainer(recipe, fleet, storage, "compute.nphm")

    def __call__(self, item: Item, upstream: Entry | None, out: EntryWriter) -> dict[str, Any]:
        try:
            run = self.recipe.prepare(device_here())
        except HeadError as error:
            raise ItemRejected("no_head", f"train_nphm.scans and train_nphm.head_file: {error}") from None
        self.trainer.train(run, out)
        return write(run, out)


def write(run: PriorRun, out: EntryWriter) -> dict[str, Any]:
    """Writes the prior, its card and its curve; returns the entry's summary."""
    options, prior = run.options, run.training.prior.eval()
    judged = judged_mm(run)
    facts: dict[str, Any] = {
        "head": options.scans,
        "options": {name: value for name, value in options.as_key().items() if name not in ELSEWHERE},
        "codes_of": [list(run.scans.codes_of(person)) for person in range(len(run.scans))] if options.scans == "nphm" else None,
        "expressions": run.scans.num_codes,
        "people": len(run.scans),
        "parameters": sum(weight.numel() for weight in prior.model.parameters()),
        **judged,
    }
    for name, data in nphm_files(prior.model, prior.codes(), facts).items():
        out.write_bytes(name, data)
    out.write_bytes(CARD, card(facts, prior.model.sizes).encode())
    out.write_bytes("curve.json", json.dumps(run.training.curve).encode())
    return {"loss": round(run.training.curve[-1]["loss"], 4), "steps": run.training.step, **judged}


def judged_mm(run: PriorRun) -> dict[str, float]:
    """Mean distances in mm over the unseen people: of neutral faces, and of each with another expression."""
    model, scans, seed = run.training.prior.model, run.unseen, run.options.seed
    neutral = fit_errors(model, scans, range(len(scans)), [NEUTRAL], THOROUGH, seed).mean()
    moved = [
        fit_errors(model, scans, [person], [scans.kept_for_judging(person)], THOROUGH, seed).mean()
        for person in range(len(scans))
    ]
    return {
        "unseen_mm": round(1e3 * float(neutral), 3),
        "unseen_expression_mm": round(1e3 * sum(float(one) for one in moved) / len(moved), 3),
    }
