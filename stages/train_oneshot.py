"""One GAGAvatar of all subjects: a model that makes an avatar of a photo."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from avatar_models.model_folder import FACTS, TENSORS
from pipelines import tables
from pipelines.atomic import write_bytes_atomic
from pipelines.curve_file import write_curve
from pipelines.fanout import FanOutResult, run_and_assemble
from pipelines.main import run_stage
from pipelines.oneshot.evaluation import MODEL
from pipelines.oneshot.items import model_item, model_step, say_what_is_off
from pipelines.oneshot.setup import PROGRESS
from pipelines.params import load_params
from pipelines.runs import stage_run
from pipelines.schedule import AS_LONG_AS_IT_TAKES_S
from pipelines.subject_runs import subject_runs

METRICS, CURVE = Path("metrics/train_oneshot.json"), Path("plots/oneshot_curve.csv")
PICTURES = Path("plots/oneshot_progress")


def assemble(result: FanOutResult) -> list[dict[str, float]]:
    """Writes the model, its figures and its curve, where one was trained; returns the curve."""
    tables.write_table(result.quarantine_table(), tables.QUARANTINE, MODEL / "quarantine.parquet")
    PICTURES.mkdir(parents=True, exist_ok=True)
    curve: list[dict[str, float]] = []
    figures: Mapping[str, Any] = {}
    for name in result.entries:
        entry = result.last(name)
        for file in (TENSORS, FACTS):
            entry.copy_to(file, MODEL / file)
        if PROGRESS in entry.files:  # there is none without test subjects
            entry.copy_to(PROGRESS, PICTURES / f"{name}.png")
        curve, figures = json.loads(entry.read_bytes("curve.json")), entry.summary
    write_bytes_atomic(METRICS, (json.dumps(figures, indent=1, sort_keys=True) + "\n").encode())
    write_curve(CURVE, curve)
    return curve


def main() -> None:
    params = load_params()
    items = [model_item(params)] if params.train_oneshot.steps else []
    if items:
        say_what_is_off(params)
    else:
        print("train_oneshot.steps is 0: no one-shot model is trained")
    step = model_step(params)
    compute = params.compute.model_copy(update={"item_timeout_s": AS_LONG_AS_IT_TAKES_S})
    blocks = {"train_oneshot": params.model_dump(mode="json")["train_oneshot"]}
    with stage_run("train_oneshot", params) as run, subject_runs(run, blocks) as runs:
        result, curve = run_and_assemble(
            "train_oneshot", [step], items, assemble, compute=compute, things="models", listener=runs
        )
        run.log_fan_out(result)
        run.log_assets(step.assets)
        for name in result.entries:
            with runs.finished(name, curve) as child:
                for picture in PICTURES.glob("*.png"):
                    child.log_bytes(picture.read_bytes(), PROGRESS)


if __name__ == "__main__":
    run_stage(main)
