"""`headwater ablate-npga`: trains NPGA's ablations and its peers, judges them on the same frames, and prints the table."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from headwater.ablate import AblationError, chosen, forgiving, link_to, wanted_rows
from pipelines.cluster import ray_cluster
from pipelines.csim_asset import say_csim_is_off
from pipelines.fanout import Item, run_and_assemble
from pipelines.lpips_asset import say_lpips_is_off
from pipelines.npga_training.ablation import (
    FIGURES,
    PRESETS,
    Frame,
    StaleTables,
    frames_of,
    items_of,
    kinds_here,
    means_of,
    steps_of,
    with_preset,
)
from pipelines.npga_training.items import npga_items
from pipelines.params import Params, load_params
from pipelines.perceptual_asset import say_what_is_off
from pipelines.runs import Run, stage_run
from pipelines.schedule import AS_LONG_AS_IT_TAKES_S

SELF = "new sequence"
"""What the paper calls self-reenactment."""
TITLES = {"psnr": "PSNR", "ssim": "SSIM", "lpips": "LPIPS"}


@dataclass(frozen=True)
class Row:
    """One row of the table: the preset's name, its figures of each subject's frames, links to runs, and who has none."""

    name: str
    frames: Mapping[str, Mapping[Frame, Mapping[str, float]]]
    links: Mapping[str, str] = field(default_factory=dict)
    lost: Mapping[str, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        return PRESETS[self.name].label


def ablate_npga(
    subjects: Sequence[str], steps: int, console: Console, retry: Collection[str] | None = None, rows_named: Sequence[str] = ()
) -> list[Row]:
    """Trains and judges the avatars of the named rows over Ray, of all where none is named; what the cache holds is not done
    again, but for failures of the reasons that `retry` names. `steps` are NPGA's; the peers have their own.

    Raises AblationError, and all that a stage may raise.
    """
    presets = wanted_rows(PRESETS, rows_named)
    params = load_params()
    if steps:
        params = Params.model_validate(params.model_dump() | {"train_npga": params.train_npga.model_dump() | {"steps": steps}})
    if not params.train_npga.steps:
        raise AblationError("train_npga.steps is 0: say how long each row is trained, --steps 3000 for instance")
    tracked = npga_items(params)
    if not tracked:
        raise AblationError(
            "no subject has a neural head and a forward field: see docs/npga.md, then `dvc repro distill_forward`"
        )
    names = [item.id for item in chosen(subjects, tracked)]
    try:
        kinds, of_rows = kinds_here(params.catalog), {name: with_preset(params, name) for name in presets}
    except (StaleTables, ValidationError) as error:
        raise AblationError(str(error)) from None
    say_what_is_off(params.train_headgas)
    say_lpips_is_off(params)
    say_csim_is_off(params.evaluate)
    rows = []
    with stage_run("ablate_npga", params, "ablate") as run, ray_cluster():
        for number, name in enumerate(presets, 1):
            console.print(f"row {number} of {len(presets)}: {PRESETS[name].label}", highlight=False)
            rows.append(one_row(name, of_rows[name], items_of(name, names), kinds, run, retry))
    if not any(row.frames for row in rows):
        raise AblationError(
            "no avatar could be trained and judged; the tables above have the reasons. After mending: "
            "headwater ablate-npga --retry REASON"
        )
    show_table(rows, kinds, console)
    return rows


def one_row(
    name: str, params: Params, items: Sequence[Item], kinds: Mapping[str, str], run: Run, retry: Collection[str] | None
) -> Row:
    """One preset on all subjects, with a run for each in MLflow."""
    block = PRESETS[name].method.trained_with
    compute = forgiving(params.compute).model_copy(update={"item_timeout_s": AS_LONG_AS_IT_TAKES_S})
    steps = steps_of(name, params)
    result, frames = run_and_assemble(
        "ablate_npga", steps, items, frames_of, compute=compute, things="subjects", retry=retry, may_all_fail=True
    )
    run.log_fan_out(result, prefix=f"{name}.")
    links = {}
    for subject, own in frames.items():
        (of_kinds,) = means_of([{subject: own}], kinds)
        with run.child(f"{name} {subject}", {block: PRESETS[name].method.options(params).as_key()}) as child:
            child.set_tags({"headwater.ablation": name, "headwater.subject": subject})
            child.log_assets({**steps[0].assets, **steps[1].assets})
            for kind, means in of_kinds.items():
                child.log_metrics({f"{kind.replace(' ', '_')}.{figure}": value for figure, value in means.items()})
            links[subject] = link_to(child, params)
    return Row(name, frames, links, {failure.item: failure.reason for failure in result.quarantined})


def show_table(rows: Sequence[Row], kinds: Mapping[str, str], console: Console) -> None:
    """A table for each kind of held-out frames: a row for each ablation in the paper's order, then the peers.

    Means are over the subjects and frames that all rows have; who is left out is said.
    """
    shown = [row for row in rows if row.frames]
    means = means_of([row.frames for row in shown], kinds)
    if not any(means):
        console.print("There are no means: no subject and frame is in all rows.")
    there = [kind for kind in dict.fromkeys(kinds.values()) if any(kind in own for own in means)]
    figures = [name for name in FIGURES if all(name in own[kind] for own in means for kind in there)]
    for kind in there:
        table = Table(kind, *(TITLES[name] for name in figures), *(["paper's PSNR"] if kind == SELF else []))
        for row, own in zip(shown, means, strict=True):
            values = [f"{own[kind][name]:.2f}" if name == "psnr" else f"{own[kind][name]:.4f}" for name in figures]
            paper = PRESETS[row.name].papers_psnr
            table.add_row(row.label, *values, *([f"{paper:.2f}" if paper else ""] if kind == SELF else []))
        console.print(table)
    for row in rows:
        for subject, reason in row.lost.items():
            told = f"{row.label} has no avatar of {subject}, who is in no mean: {reason}."
            console.print(told, highlight=False, markup=False, soft_wrap=True)
    console.print("The paper's figures are of NeRSemble's people. Runs (with a file as store, start `headwater ui` first):")
    for row in shown:
        for subject, link in row.links.items():
            console.print(f"  {row.label} {subject}: {link}", highlight=False, soft_wrap=True)
