"""A method's avatars on held-out frames, self and cross reenactment: what its stage does and leaves."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from itertools import islice

import pyarrow as pa
import pyarrow.compute as pc

from avatar_models.avatar import FACTS, TENSORS
from pipelines import tables
from pipelines.atomic import sha256_file, write_bytes_atomic
from pipelines.csim_asset import csim_tag, say_csim_is_off, write_csim_record
from pipelines.evaluation import FIGURES, LPIPS, PAIR
from pipelines.faces import CROSS_MEANS, DECIMALS, FACE_MEANS
from pipelines.fanout import FanOutResult, Item, Step, run_and_assemble
from pipelines.judging import METRICS_SCHEMA, JudgeAvatar, judging_step
from pipelines.keys import digest
from pipelines.lpips_asset import ON_TAG, say_lpips_is_off
from pipelines.methods import Method
from pipelines.pairing import cross_pairs
from pipelines.params import Params, load_params
from pipelines.runs import stage_run

Means = dict[str, dict[str, float | None]]
"""Mean figures by subject or pair; None where no frame has a face."""


def items(method: Method, params: Params) -> list[Item]:
    """Every subject with an avatar, and the first `evaluate.max_cross_pairs` of the pairs."""
    segments = tables.read_table(method.tracks / "segments.parquet", tables.SEGMENTS).to_pylist()
    subjects = sorted(path.parent.name for path in method.models.glob(f"*/{TENSORS}"))

    def data_of(subject: str) -> list[str]:
        return sorted(row["fingerprint"] for row in segments if row["subject_id"] == subject)

    avatar = {subject: [sha256_file(method.models / subject / name) for name in (TENSORS, FACTS)] for subject in subjects}
    found = [Item(subject, digest([avatar[subject], data_of(subject)])) for subject in subjects]
    for target, driver in islice(cross_pairs(subjects), params.evaluate.max_cross_pairs):
        content = [avatar[target], data_of(target), data_of(driver), "cross"]
        found.append(Item(f"{target}{PAIR}{driver}", digest(content)))
    return found


def step(method: Method, params: Params) -> Step:
    return judging_step(method.judged_by, JudgeAvatar, method, params)


def assemble(method: Method, result: FanOutResult) -> Means:
    """Writes the figures of every frame, their means, and the videos; returns the means by subject."""
    parts = [METRICS_SCHEMA.empty_table()]
    means: Means = {}
    pairs: Means = {}
    folder = method.evaluation
    for name in result.entries:
        entry = result.last(name)
        target, _, driver = name.partition(PAIR)
        entry.copy_to("video.mp4", folder / "cross" / target / f"{driver}.mp4" if driver else folder / "videos" / f"{name}.mp4")
        parts.append(entry.read_table("metrics"))
        if driver:
            pairs[name] = {figure: entry.summary[figure] for figure in CROSS_MEANS if figure in entry.summary}
        else:
            entry.copy_to("still.png", folder / "stills" / f"{name}.png")
            means[name] = dict(entry.summary)
    for subject, own in means.items():
        driven = [pairs[name] for name in pairs if name.partition(PAIR)[0] == subject]
        own |= {f"cross_{name}": value for name, value in mean_of(driven, CROSS_MEANS).items()}
    table = pa.concat_tables(parts)
    tables.write_table(table, METRICS_SCHEMA, folder / "metrics.parquet")
    tables.write_table(result.quarantine_table(), tables.QUARANTINE, folder / "quarantine.parquet")
    for path, figures in ((method.metrics, over_subjects(means)), (method.subjects, means), (method.pairs, pairs)):
        write_bytes_atomic(path, (json.dumps(figures, indent=1, sort_keys=True) + "\n").encode())
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["subject", "clip", "frame", "psnr", "baseline_psnr"])
    for row in table.filter(pc.equal(table["subject_id"], table["driver_id"])).to_pylist():
        writer.writerow([row["subject_id"], row["clip_id"], row["frame"], f"{row['psnr']:.3f}", f"{row['baseline_psnr']:.3f}"])
    write_bytes_atomic(method.plot, text.getvalue().encode())
    return means


def over_subjects(means: Mapping[str, Mapping[str, float | None]]) -> dict[str, float]:
    """The mean of each figure over the subjects that have it; nothing without subjects."""
    return mean_of(list(means.values()), (*FIGURES, *LPIPS, *FACE_MEANS, *(f"cross_{name}" for name in CROSS_MEANS)))


def mean_of(found: Sequence[Mapping[str, float | None]], names: Sequence[str]) -> dict[str, float]:
    """The mean of each of these figures over those that have it, rounded; figures that nobody has are not there."""
    there = {name: [value for one in found if (value := one.get(name)) is not None] for name in names}
    return {name: round(sum(values) / len(values), DECIMALS) for name, values in there.items() if values}


def judge_avatars(method: Method) -> None:
    """The whole stage."""
    params = load_params()
    found = items(method, params)
    if found:
        say_lpips_is_off(params)
        say_csim_is_off(params.evaluate)
    else:
        print(f"{method.models} holds no avatar: there is none to judge")
    judge = step(method, params)
    own = {"evaluate": params.evaluate.as_key(), method.trained_with: method.options(params).as_key()}
    folder = method.evaluation
    with stage_run(method.judged_by, params) as run:
        result, means = run_and_assemble(
            method.judged_by,
            [judge],
            found,
            lambda result: assemble(method, result),
            compute=params.compute,
            things="subjects and pairs",
        )
        write_csim_record(folder, params.evaluate)
        run.log_fan_out(result)
        run.log_assets(judge.assets)
        run.set_tags(csim_tag(params.evaluate))
        run.log_metrics(over_subjects(means))
        for subject, figures in means.items():
            with run.child(subject, own) as child:
                child.log_metrics({name: value for name, value in figures.items() if value is not None})
                child.set_tags({ON_TAG: str("lpips" in figures).lower(), **csim_tag(params.evaluate)})
                child.log_bytes((folder / "videos" / f"{subject}.mp4").read_bytes(), "video.mp4")
                child.log_bytes((folder / "stills" / f"{subject}.png").read_bytes(), "still.png")
        if (folder / "cross").exists():
            run.log_artifact(folder / "cross")
