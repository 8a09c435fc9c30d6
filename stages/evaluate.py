"""Held-out frames, self and cross reenactment."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from itertools import islice
from pathlib import Path

import pyarrow as pa

from avatar_models.avatar import FACTS, TENSORS
from pipelines import tables
from pipelines.atomic import sha256_file, write_bytes_atomic
from pipelines.evaluation import FIGURES, LPIPS, METRICS_SCHEMA, MODELS, PAIR, SUBJECTS, JudgeAvatar, judging_step
from pipelines.fanout import FanOutResult, Item, Step, run_and_assemble
from pipelines.keys import digest
from pipelines.lpips_asset import ON_TAG, say_lpips_is_off
from pipelines.main import run_stage
from pipelines.pairing import cross_pairs
from pipelines.params import Params, load_params
from pipelines.runs import stage_run
from pipelines.subject import TRACKS_FOLDER

FOLDER, METRICS, PLOT = Path("data/evaluation"), Path("metrics/evaluate.json"), Path("plots/evaluate_psnr.csv")


def items(params: Params) -> list[Item]:
    """Every subject with an avatar, and the first `evaluate.max_cross_pairs` of the pairs."""
    segments = tables.read_table(TRACKS_FOLDER / "segments.parquet", tables.SEGMENTS).to_pylist()
    subjects = sorted(folder.name for folder in MODELS.iterdir() if (folder / TENSORS).exists())

    def data_of(subject: str) -> list[str]:
        return sorted(row["fingerprint"] for row in segments if row["subject_id"] == subject)

    avatar = {subject: [sha256_file(MODELS / subject / name) for name in (TENSORS, FACTS)] for subject in subjects}
    found = [Item(subject, digest([avatar[subject], data_of(subject)])) for subject in subjects]
    for target, driver in islice(cross_pairs(subjects), params.evaluate.max_cross_pairs):
        found.append(Item(f"{target}{PAIR}{driver}", digest([avatar[target], data_of(driver), "cross"])))
    return found


def step(params: Params) -> Step:
    return judging_step("evaluate", JudgeAvatar, params)


def assemble(result: FanOutResult) -> dict[str, dict[str, float]]:
    """Writes the figures of every frame, their means, and the videos; returns the means by subject."""
    parts, means = [METRICS_SCHEMA.empty_table()], {}
    for name in result.entries:
        entry = result.last(name)
        target, _, driver = name.partition(PAIR)
        entry.copy_to("video.mp4", FOLDER / "cross" / target / f"{driver}.mp4" if driver else FOLDER / "videos" / f"{name}.mp4")
        if not driver:
            entry.copy_to("still.png", FOLDER / "stills" / f"{name}.png")
            parts.append(entry.read_table("metrics"))
            means[name] = dict(entry.summary)
    table = pa.concat_tables(parts)
    tables.write_table(table, METRICS_SCHEMA, FOLDER / "metrics.parquet")
    tables.write_table(result.quarantine_table(), tables.QUARANTINE, FOLDER / "quarantine.parquet")
    overall = {name: round(value, 4) for name, value in over_subjects(means).items()} or dict.fromkeys(FIGURES, 0.0)
    for path, figures in ((METRICS, overall), (SUBJECTS, means)):
        write_bytes_atomic(path, (json.dumps(figures, indent=1, sort_keys=True) + "\n").encode())
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["subject", "frame", "psnr", "baseline_psnr"])
    for row in table.to_pylist():
        writer.writerow([row["subject_id"], row["frame"], f"{row['psnr']:.3f}", f"{row['baseline_psnr']:.3f}"])
    write_bytes_atomic(PLOT, text.getvalue().encode())
    return means


def over_subjects(means: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """The mean of each figure that the subjects have; nothing without subjects."""
    names = [name for name in (*FIGURES, *LPIPS) if any(name in found for found in means.values())]
    return {name: sum(found[name] for found in means.values()) / len(means) for name in names}


def main() -> None:
    params = load_params()
    say_lpips_is_off(params)
    judge = step(params)
    blocks = {name: block for name, block in params.model_dump(mode="json").items() if name in ("train_headgas", "evaluate")}
    with stage_run("evaluate", params) as run:
        result, means = run_and_assemble(
            "evaluate", [judge], items(params), assemble, compute=params.compute, things="subjects and pairs"
        )
        run.log_fan_out(result)
        run.log_assets(judge.assets)
        run.log_metrics(over_subjects(means))
        for subject, figures in means.items():
            with run.child(subject, blocks) as child:
                child.log_metrics(figures)
                child.set_tags({ON_TAG: str("lpips" in figures).lower()})
                child.log_bytes((FOLDER / "videos" / f"{subject}.mp4").read_bytes(), "video.mp4")
                child.log_bytes((FOLDER / "stills" / f"{subject}.png").read_bytes(), "still.png")
        if (FOLDER / "cross").exists():
            run.log_artifact(FOLDER / "cross")


if __name__ == "__main__":
    run_stage(main)
