"""One HeadGaS avatar for each subject."""

from __future__ import annotations

import csv
import io
import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

from avatar_models.avatar import FACTS, TENSORS
from avatar_models.perceptual import VGG16_SHA256, VGG16_URL, load_vgg16
from pipelines import tables
from pipelines.atomic import sha256_file, write_bytes_atomic
from pipelines.fanout import FanOutResult, Item, Step, run_and_assemble
from pipelines.keys import digest
from pipelines.main import run_stage
from pipelines.params import Params, TrainHeadgas, load_params
from pipelines.runs import stage_run
from pipelines.splits import subjects_that_passed
from pipelines.subject import TRACKS_FOLDER
from pipelines.training import VERSION, HeadGasTrainer

MODELS, METRICS, CURVES = Path("models/headgas"), Path("metrics/train_headgas.json"), Path("plots/headgas_curves.csv")
PROGRESS = Path("plots/headgas_progress")
ABSENT = "absent"


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
    """The training step. How often a checkpoint is written and where the perceptual weights lie stay out of the key: the one
    changes nothing, and of the other the content counts."""
    options: dict[str, Any] = {"train_headgas": params.train_headgas.as_key(), "test_fraction": params.catalog.test_fraction}
    every, weights = (options["train_headgas"].pop(name) for name in ("checkpoint_every", "perceptual_weights"))
    assets = perceptual_asset(params.train_headgas)
    there = not perceptual_is_off(params.train_headgas)
    worker = partial(HeadGasTrainer, checkpoint_every=every, perceptual_weights=str(Path(weights).resolve()) if there else "")
    return Step("train_headgas", VERSION, worker, options, params.compute.train, assets)


def perceptual_asset(options: TrainHeadgas) -> dict[str, str]:
    """sha256 of VGG16's weights, ABSENT where the loss asks for them and they are not there; nothing where it does not."""
    if options.lambda_perceptual == 0:
        return {}
    path = Path(options.perceptual_weights)
    return {"vgg16": sha256_file(path) if path.is_file() else ABSENT}


def perceptual_is_off(options: TrainHeadgas) -> bool:
    """Whether nothing is compared perceptually: not asked for, or no weights."""
    return perceptual_asset(options).get("vgg16", ABSENT) == ABSENT


def say_what_is_off(options: TrainHeadgas) -> None:
    """Loudly, once: a loss that the user asked for and does not get. Raises PerceptualWeightsError for weights of no use."""
    if options.lambda_perceptual == 0:
        return
    if not perceptual_is_off(options):
        load_vgg16(Path(options.perceptual_weights))
    else:
        where = (
            f"{options.perceptual_weights}: no such file"
            if options.perceptual_weights
            else "train_headgas.perceptual_weights is empty"
        )
        print(
            f"WARNING: the perceptual loss is OFF, lambda_perceptual = {options.lambda_perceptual} notwithstanding: {where}.\n"
            f"         Get {VGG16_URL} (sha256 {VGG16_SHA256[:16]}...) and name it there, or set lambda_perceptual: 0.",
            file=sys.stderr,
            flush=True,
        )


def assemble(result: FanOutResult) -> dict[str, list[dict[str, float]]]:
    """Writes the avatars, their figures and curves; returns the curves by subject."""
    curves = {}
    for subject in result.entries:
        entry = result.last(subject)
        for name in (TENSORS, FACTS):
            entry.copy_to(name, MODELS / subject / name)
        entry.copy_to("progress.png", PROGRESS / f"{subject}.png")
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
    say_what_is_off(params.train_headgas)
    with stage_run("train_headgas", params) as run:
        result, curves = run_and_assemble(
            "train_headgas", [step(params)], items(), assemble, compute=params.compute, things="subjects"
        )
        run.log_fan_out(result)
        run.set_tags({f"headwater.asset.{name}": found[:16] for name, found in perceptual_asset(params.train_headgas).items()})
        for subject, curve in curves.items():
            with run.child(subject) as child:
                child.log_curve(curve)
                summary = result.last(subject).summary
                child.log_metrics({"train_psnr": summary["psnr"], "num_gaussians": summary["gaussians"]})
                child.set_tags({"headwater.perceptual_loss": str(summary["perceptual_loss"]).lower()})
                child.log_artifact(PROGRESS / f"{subject}.png", "pictures")
                child.log_avatar(MODELS / subject)


if __name__ == "__main__":
    run_stage(main)
