"""One NPGA avatar for each subject that was tracked with the neural head."""

from __future__ import annotations

import json
from pathlib import Path

from avatar_models.avatar import FACTS, TENSORS
from pipelines import tables
from pipelines.atomic import write_bytes_atomic
from pipelines.fanout import FanOutResult, run_and_assemble
from pipelines.main import run_stage
from pipelines.methods import NPGA
from pipelines.npga_training.items import FORWARD, npga_items, npga_step
from pipelines.params import load_params
from pipelines.runs import stage_run
from pipelines.schedule import AS_LONG_AS_IT_TAKES_S
from pipelines.subject_runs import subject_runs
from pipelines.training import PROGRESS

MODELS, METRICS, PICTURES = NPGA.models, Path("metrics/train_npga.json"), Path("plots/npga_progress")
FIGURES = ("held_out_psnr", "held_out_ssim", "held_out_raw_psnr")


def assemble(result: FanOutResult) -> dict[str, list[dict[str, float]]]:
    """Writes the avatars and their figures; returns the curves by subject."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    curves = {}
    for subject in result.entries:
        entry = result.last(subject)
        for name in (TENSORS, FACTS):
            entry.copy_to(name, MODELS / subject / name)
        if PROGRESS in entry.files:
            entry.copy_to(PROGRESS, PICTURES / f"{subject}.png")
        curves[subject] = json.loads(entry.read_bytes("curve.json"))
    tables.write_table(result.quarantine_table(), tables.QUARANTINE, MODELS / "quarantine.parquet")
    summaries = [result.last(subject).summary for subject in result.entries]
    figures: dict[str, float] = {"subjects": len(summaries), "quarantined": len(result.quarantined)}
    for name in FIGURES:
        there = [summary[name] for summary in summaries if name in summary]
        if there:
            figures[name] = round(sum(there) / len(there), 4)
    write_bytes_atomic(METRICS, (json.dumps(figures, indent=1, sort_keys=True) + "\n").encode())
    return curves


def main() -> None:
    params = load_params()
    items = npga_items(params)
    if not params.train_npga.steps:
        print("train_npga.steps is 0: no NPGA avatar is trained")
    elif not (FORWARD / TENSORS).exists():
        print(f"{FORWARD} holds no forward field (distill_forward.steps is 0?): no NPGA avatar is trained")
    elif not items:
        print("no subject passed track_nphm, whose lines say why: no NPGA avatar is trained")
    steps = [npga_step(params)] if items else []
    compute = params.compute.model_copy(update={"item_timeout_s": AS_LONG_AS_IT_TAKES_S})
    blocks = {"train_npga": params.train_npga.as_key()}
    with stage_run("train_npga", params) as run, subject_runs(run, blocks) as subjects:
        result, curves = run_and_assemble(
            "train_npga", steps, items, assemble, compute=compute, things="subjects", listener=subjects
        )
        run.log_fan_out(result)
        for subject, curve in curves.items():
            with subjects.finished(subject, curve) as child:
                summary = result.last(subject).summary
                child.log_metrics({name: summary[name] for name in FIGURES if name in summary}, step=summary["steps"])
                child.log_avatar(MODELS / subject)


if __name__ == "__main__":
    run_stage(main)
