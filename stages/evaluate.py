"""Held-out frames, self and cross reenactment."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from avatar_models.avatar import FACTS, TENSORS
from pipelines import tables
from pipelines.atomic import sha256_file, write_bytes_atomic
from pipelines.csim_asset import csim_tag, say_csim_is_off, write_csim_record
from pipelines.evaluation import FIGURES, LPIPS, MODELS, PAIR, PAIRS, SUBJECTS
from pipelines.faces import DECIMALS, FACE_MEANS
from pipelines.fanout import FanOutResult, Item, Step, run_and_assemble
from pipelines.judging import CROSS_MEANS, METRICS_SCHEMA, JudgeAvatar, judging_step
from pipelines.keys import digest
from pipelines.lpips_asset import ON_TAG, say_lpips_is_off
from pipelines.main import run_stage
from pipelines.pairing import cross_pairs
from pipelines.params import Params, load_params
from pipelines.runs import stage_run
from pipelines.subject import TRACKS_FOLDER

FOLDER, METRICS, PLOT = Path("data/evaluation"), Path("metrics/evaluate.json"), Path("plots/evaluate_psnr.csv")

Means = dict[str, dict[str, float | None]]
"""Mean figures by subject or pair; None where no frame has a face."""


def items(params: Params) -> list[Item]:
    """Every subject with an avatar, and the first `evaluate.max_cross_pairs` of the pairs."""
    segments = tables.read_table(TRACKS_FOLDER / "segments.parquet", tables.SEGMENTS).to_pylist()
    subjects = sorted(folder.name for folder in MODELS.iterdir() if (folder / TENSORS).exists())

    def data_of(subject: str) -> list[str]:
        return sorted(row["fingerprint"] for row in segments if row["subject_id"] == subject)

    avatar = {subject: [sha256_file(MODELS / subject / name) for name in (TENSORS, FACTS)] for subject in subjects}
    found = [Item(subject, digest([avatar[subject], data_of(subject)])) for subject in subjects]
    for target, driver in islice(cross_pairs(subjects), params.evaluate.max_cross_pairs):
        content = [avatar[target], data_of(target), data_of(driver), "cross"]
        found.append(Item(f"{target}{PAIR}{driver}", digest(content)))
    return found


def step(params: Params) -> Step:
    return judging_step("evaluate", JudgeAvatar, params)


def assemble(result: FanOutResult) -> Means:
    """Writes the figures of every frame, their means, and the videos; returns the means by subject."""
    parts = [METRICS_SCHEMA.empty_table()]
    means: Means = {}
    pairs: Means = {}
    for name in result.entries:
        entry = result.last(name)
        target, _, driver = name.partition(PAIR)
        entry.copy_to("video.mp4", FOLDER / "cross" / target / f"{driver}.mp4" if driver else FOLDER / "videos" / f"{name}.mp4")
        parts.append(entry.read_table("metrics"))
        if driver:
            pairs[name] = {figure: entry.summary[figure] for figure in CROSS_MEANS if figure in entry.summary}
        else:
            entry.copy_to("still.png", FOLDER / "stills" / f"{name}.png")
            means[name] = dict(entry.summary)
    for subject, own in means.items():
        driven = [pairs[name] for name in pairs if name.partition(PAIR)[0] == subject]
        own |= {f"cross_{name}": value for name, value in mean_of(driven, CROSS_MEANS).items()}
    table = pa.concat_tables(parts)
    tables.write_table(table, METRICS_SCHEMA, FOLDER / "metrics.parquet")
    tables.write_table(result.quarantine_table(), tables.QUARANTINE, FOLDER / "quarantine.parquet")
    overall = over_subjects(means) or dict.fromkeys(FIGURES, 0.0)
    for path, figures in ((METRICS, overall), (SUBJECTS, means), (PAIRS, pairs)):
        write_bytes_atomic(path, (json.dumps(figures, indent=1, sort_keys=True) + "\n").encode())
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["subject", "frame", "psnr", "baseline_psnr"])
    for row in table.filter(pc.equal(table["subject_id"], table["driver_id"])).to_pylist():
        writer.writerow([row["subject_id"], row["frame"], f"{row['psnr']:.3f}", f"{row['baseline_psnr']:.3f}"])
    write_bytes_atomic(PLOT, text.getvalue().encode())
    return means


def over_subjects(means: Mapping[str, Mapping[str, float | None]]) -> dict[str, float]:
    """The mean of each figure over the subjects that have it; nothing without subjects."""
    return mean_of(list(means.values()), (*FIGURES, *LPIPS, *FACE_MEANS, *(f"cross_{name}" for name in CROSS_MEANS)))


def mean_of(found: Sequence[Mapping[str, float | None]], names: Sequence[str]) -> dict[str, float]:
    """The mean of each of these figures over those that have it, rounded; figures that nobody has are not there."""
    there = {name: [value for one in found if (value := one.get(name)) is not None] for name in names}
    return {name: round(sum(values) / len(values), DECIMALS) for name, values in there.items() if values}


def main() -> None:
    params = load_params()
    say_lpips_is_off(params)
    say_csim_is_off(params.evaluate)
    judge = step(params)
    blocks = {name: block for name, block in params.model_dump(mode="json").items() if name in ("train_headgas", "evaluate")}
    with stage_run("evaluate", params) as run:
        result, means = run_and_assemble(
            "evaluate", [judge], items(params), assemble, compute=params.compute, things="subjects and pairs"
        )
        write_csim_record(FOLDER, params.evaluate)
        run.log_fan_out(result)
        run.log_assets(judge.assets)
        run.set_tags(csim_tag(params.evaluate))
        run.log_metrics(over_subjects(means))
        for subject, figures in means.items():
            with run.child(subject, blocks) as child:
                child.log_metrics({name: value for name, value in figures.items() if value is not None})
                child.set_tags({ON_TAG: str("lpips" in figures).lower(), **csim_tag(params.evaluate)})
                child.log_bytes((FOLDER / "videos" / f"{subject}.mp4").read_bytes(), "video.mp4")
                child.log_bytes((FOLDER / "stills" / f"{subject}.png").read_bytes(), "still.png")
        if (FOLDER / "cross").exists():
            run.log_artifact(FOLDER / "cross")


if __name__ == "__main__":
    run_stage(main)
