"""One HeadGaS avatar for each subject."""

from __future__ import annotations

import csv
import io
import json
from functools import partial
from pathlib import Path
from typing import Any

from avatar_models.avatar import FACTS, TENSORS
from pipelines import tables
from pipelines.atomic import write_bytes_atomic
from pipelines.fanout import FanOutResult, Item, Step, run_and_assemble
from pipelines.keys import digest
from pipelines.main import run_stage
from pipelines.params import Params, load_params
from pipelines.runs import stage_run
from pipelines.splits import subjects_that_passed
from pipelines.subject import TRACKS_FOLDER
from pipelines.training import VERSION, HeadGasTrainer

MODELS, METRICS, CURVES = Path("models/headgas"), Path("metrics/train_headgas.json"), Path("plots/headgas_curves.csv")


def items() -> list[Item]:
    """An item for each subject with a segment that passed; it depends on all of the subject's segments."""
    segments = tables.read_table(TRACKS_FOLDER / "segments.parquet", tables.SEGMENTS)
    rows = [row for row in segments.to_pylist() if row["passed"]]
    found = []
    for subject in subjects_that_passed(segments):
        own = [row for row in rows if row["subject_id"] == subject]
        found.append(Item(subject, digest(sorted(row["fingerprint"] for row in own))))
    return found


def step(params: Params) -> Step:
    options: dict[str, Any] = {"train_headgas": params.train_headgas.as_key(), "test_fraction": params.catalog.test_fraction}
    # How often a checkpoint is written changes nothing in the result, so it is kept out of the key.
    every = options["train_headgas"].pop("checkpoint_every")
    worker = partial(HeadGasTrainer, checkpoint_every=every)
    return Step("train_headgas", VERSION, worker, options, params.compute.train)


def assemble(result: FanOutResult) -> dict[str, list[dict[str, float]]]:
    """Writes the avatars, their figures and curves; returns the curves by subject."""
    curves = {}
    for subject in result.entries:
        entry = result.last(subject)
        for name in (TENSORS, FACTS):
            entry.copy_to(name, MODELS / subject / name)
        curves[subject] = json.loads(entry.read_bytes("curve.json"))
    tables.write_table(result.quarantine_table(), tables.QUARANTINE, MODELS / "quarantine.parquet")
    found = [result.last(subject).summary["psnr"] for subject in result.entries]
    figures = {
        "subjects": len(found),
        "quarantined": len(result.quarantined),
        "train_psnr": round(sum(found) / max(len(found), 1), 4),
    }
    write_bytes_atomic(METRICS, (json.dumps(figures, indent=1, sort_keys=True) + "\n").encode())
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["subject", "step", "loss", "l1", "dssim"])
    for subject, curve in curves.items():
        writer.writerows([subject, *(point[name] for name in ("step", "loss", "l1", "dssim"))] for point in curve)
    write_bytes_atomic(CURVES, text.getvalue().encode())
    return curves


def main() -> None:
    params = load_params()
    with stage_run("train_headgas", params) as run:
        result, curves = run_and_assemble(
            "train_headgas", [step(params)], items(), assemble, compute=params.compute, things="subjects"
        )
        run.log_fan_out(result)
        for subject, curve in curves.items():
            with run.child(subject) as child:
                child.log_curve(curve)
                child.log_metrics({"train_psnr": result.last(subject).summary["psnr"]})
                child.log_avatar(MODELS / subject)


if __name__ == "__main__":
    run_stage(main)
