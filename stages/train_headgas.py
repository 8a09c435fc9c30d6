"""One HeadGaS avatar for each subject."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

from avatar_models.avatar import FACTS, TENSORS
from pipelines import tables
from pipelines.atomic import write_bytes_atomic
from pipelines.fanout import FanOutResult, run_and_assemble
from pipelines.main import run_stage
from pipelines.params import load_params
from pipelines.perceptual_asset import ON_TAG, perceptual_asset, say_what_is_off
from pipelines.runs import stage_run
from pipelines.subject_runs import subject_runs
from pipelines.training import PROGRESS
from pipelines.training_items import training_items, training_step

MODELS, METRICS, CURVES = Path("models/headgas"), Path("metrics/train_headgas.json"), Path("plots/headgas_curves.csv")
PICTURES = Path("plots/headgas_progress")


def assemble(result: FanOutResult) -> dict[str, list[dict[str, float]]]:
    """Writes the avatars, their figures and curves; returns the curves by subject."""
    curves = {}
    for subject in result.entries:
        entry = result.last(subject)
        for name in (TENSORS, FACTS):
            entry.copy_to(name, MODELS / subject / name)
        entry.copy_to(PROGRESS, PICTURES / f"{subject}.png")
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
    blocks = {"train_headgas": params.model_dump(mode="json")["train_headgas"]}
    with stage_run("train_headgas", params) as run, subject_runs(run, blocks) as subjects:
        result, curves = run_and_assemble(
            "train_headgas",
            [training_step(params)],
            training_items(),
            assemble,
            compute=params.compute,
            things="subjects",
            listener=subjects,
        )
        run.log_fan_out(result)
        run.log_assets(perceptual_asset(params.train_headgas))
        for subject, curve in curves.items():
            with subjects.finished(subject, curve) as child:
                summary = result.last(subject).summary
                child.log_metrics({"train_psnr": summary["psnr"]}, step=summary["steps"])
                child.set_tags({ON_TAG: str(summary["perceptual_loss"]).lower()})
                child.log_bytes((PICTURES / f"{subject}.png").read_bytes(), PROGRESS)
                child.log_avatar(MODELS / subject)


if __name__ == "__main__":
    run_stage(main)
