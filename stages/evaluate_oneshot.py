"""The one-shot model on people that it has never seen: self and cross reenactment."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import islice
from pathlib import Path

import pyarrow as pa

from avatar_models.model_folder import FACTS, TENSORS, ModelError
from pipelines import tables
from pipelines.atomic import sha256_file, write_bytes_atomic
from pipelines.csim_asset import csim_tag, say_csim_is_off, write_csim_record
from pipelines.evaluation import PAIR
from pipelines.fanout import FanOutResult, Item, run_and_assemble
from pipelines.keys import digest
from pipelines.lpips_asset import say_lpips_is_off
from pipelines.main import run_stage
from pipelines.oneshot.evaluation import METHODS, SCHEMA
from pipelines.oneshot.items import data_of, judging_step, segments_of
from pipelines.oneshot.people import train_and_test
from pipelines.pairing import cross_pairs
from pipelines.params import ONESHOT_MODEL, Params, load_params
from pipelines.runs import stage_run
from pipelines.splits import subjects_that_passed

FOLDER, METRICS = Path("data/evaluation_oneshot"), Path("metrics/evaluate_oneshot.json")

Figures = dict[str, dict[str, float | None]]
"""Of one item, by method; None where there is nothing to tell."""
Means = dict[str, dict[str, float]]
"""Figures by method."""


def items(params: Params) -> list[Item]:
    """The test subjects, and the first `evaluate.max_cross_pairs` pairs of them."""
    if not params.train_oneshot.steps:
        print("there is no one-shot model to judge: train_oneshot.steps is 0")
        return []
    for name in (TENSORS, FACTS):
        if not (ONESHOT_MODEL / name).exists():
            raise ModelError(
                f"{ONESHOT_MODEL / name}: not found. `dvc repro train_oneshot` makes it, `dvc pull` brings what was made before"
            )
    segments = segments_of()
    _, test = train_and_test(subjects_that_passed(segments), params.train_oneshot.test_subjects)
    if not test:
        print("nobody is kept out of training, so nobody can judge the one-shot model: see train_oneshot.test_subjects")
    if len(test) == 1:
        print(f"{test[0]} alone is kept out of training: there is nobody else whom it could drive, and no cross-reenactment")
    model = [sha256_file(ONESHOT_MODEL / name) for name in (TENSORS, FACTS)]
    found = [Item(subject, digest([model, data_of(segments, [subject])])) for subject in test]
    for photo, driver in islice(cross_pairs(test), params.evaluate.max_cross_pairs):
        content = [model, data_of(segments, [photo]), data_of(segments, [driver]), "cross"]
        found.append(Item(f"{photo}{PAIR}{driver}", digest(content)))
    return found


def assemble(result: FanOutResult) -> tuple[Means, Means]:
    """Writes figures of every frame, film strips and videos; returns the means of self and of cross reenactment."""
    parts = [SCHEMA.empty_table()]
    own: dict[str, Figures] = {}
    cross: dict[str, Figures] = {}
    for name in result.entries:
        entry = result.last(name)
        photo, _, driver = name.partition(PAIR)
        where = Path("cross") / photo / driver if driver else Path("self") / photo
        entry.copy_to("video.mp4", FOLDER / where.with_name(f"{where.name}.mp4"))
        entry.copy_to("strip.png", FOLDER / where.with_name(f"{where.name}.png"))
        parts.append(entry.read_table("metrics"))
        (cross if driver else own)[name] = dict(entry.summary)
    tables.write_table(pa.concat_tables(parts), SCHEMA, FOLDER / "metrics.parquet")
    tables.write_table(result.quarantine_table(), tables.QUARANTINE, FOLDER / "quarantine.parquet")
    means = means_of(own), means_of(cross)
    figures = {"self": means[0], "cross": means[1]}
    write_bytes_atomic(METRICS, (json.dumps(figures, indent=1, sort_keys=True) + "\n").encode())
    return means


def means_of(figures: Mapping[str, Figures]) -> Means:
    """Of each method's figures over the items that have them."""
    found: Means = {}
    for method in METHODS:
        of_items = [of_item[method] for of_item in figures.values()]
        there: dict[str, list[float]] = {}
        for means in of_items:
            for name, value in means.items():
                if value is not None:
                    there.setdefault(name, []).append(value)
        found[method] = {name: round(sum(values) / len(values), 4) for name, values in there.items()}
    return found


def main() -> None:
    params = load_params()
    say_lpips_is_off(params)
    say_csim_is_off(params.evaluate)
    step = judging_step(params)
    with stage_run("evaluate_oneshot", params) as run:
        result, (own, cross) = run_and_assemble(
            "evaluate_oneshot", [step], items(params), assemble, compute=params.compute, things="subjects and pairs"
        )
        write_csim_record(FOLDER, params.evaluate)
        run.log_fan_out(result)
        run.log_assets(step.assets)
        run.set_tags(csim_tag(params.evaluate))
        blocks = {name: params.model_dump(mode="json")[name] for name in ("train_oneshot", "evaluate")}
        for method in METHODS:
            with run.child(method, blocks) as child:
                child.set_tags(csim_tag(params.evaluate))
                child.log_metrics(own[method])
                child.log_metrics({f"cross_{name}": value for name, value in cross[method].items()})
        run.log_artifact(FOLDER)


if __name__ == "__main__":
    run_stage(main)
