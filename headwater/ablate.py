"""`headwater ablate`: trains every row of HeadGaS's table of ablations on some subjects, and prints the table."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.table import Table

from pipelines.ablation import PRESETS, SHOWN, figures_of, judge_step, with_preset
from pipelines.cluster import ray_cluster
from pipelines.fanout import Item, run_and_assemble
from pipelines.params import Params, load_params
from pipelines.perceptual_asset import perceptual_is_off, say_what_is_off
from pipelines.runs import Run, stage_run
from pipelines.tracking import MODEL_TRAINING, tracking_uri
from pipelines.training_items import training_items, training_step

LOCAL_UI = "http://127.0.0.1:5000"
"""Where `headwater ui` shows a store that is a file."""


class AblationError(ValueError):
    """A subject that is not there; the message lists those that are."""


@dataclass(frozen=True)
class Row:
    """One row of the table: the preset's name, figures by subject, and links to the runs."""

    name: str
    figures: dict[str, dict[str, float]]
    links: dict[str, str]

    def mean(self, figure: str) -> float:
        return float(np.mean([found[figure] for found in self.figures.values()]))


def ablate(subjects: Sequence[str], steps: int, console: Console) -> list[Row]:
    """Trains and judges each row's avatars over Ray; what the cache holds is not done again.

    Raises AblationError, and all that a stage may raise.
    """
    params = load_params()
    items = chosen(subjects)
    wanted = params.train_headgas
    without_perceptual = perceptual_is_off(wanted)
    if wanted.lambda_perceptual > 0:
        say_what_is_off(wanted)
    names = [name for name in PRESETS if name != "no_perceptual" or not without_perceptual]
    rows = []
    with stage_run("ablate", params) as run, ray_cluster():
        run.log_params({"subjects": ", ".join(item.id for item in items), "steps": steps or wanted.steps}, "ablate")
        for name in names:
            console.print(f"{PRESETS[name].label}:", highlight=False)
            rows.append(one_row(name, with_preset(params, name, steps), items, run))
    if without_perceptual:
        console.print("w/o L_p is left out: the perceptual term is off in all rows", highlight=False)
    show_table(rows, console)
    return rows


def chosen(subjects: Sequence[str]) -> list[Item]:
    """The items of the named subjects; of all where none is named."""
    items = {item.id: item for item in training_items()}
    for subject in subjects:
        if subject not in items:
            near = difflib.get_close_matches(subject, items, n=1, cutoff=0.0)
            meant = (
                f" Did you mean {near[0]}? All: {', '.join(items)}" if near else " None has been tracked: dvc repro preprocess"
            )
            raise AblationError(f"no tracked subject {subject!r}.{meant}")
    return [items[subject] for subject in dict.fromkeys(subjects)] or list(items.values())


def one_row(name: str, params: Params, items: Sequence[Item], run: Run) -> Row:
    """One preset on all subjects, with a run for each in MLflow."""
    steps = [training_step(params), judge_step(params)]
    result, figures = run_and_assemble("ablate", steps, items, figures_of, compute=params.compute, things="subjects")
    run.log_fan_out(result, prefix=f"{name}.")
    links = {}
    for subject, found in figures.items():
        with run.child(f"{name} {subject}", {"train_headgas": params.train_headgas.as_key()}) as child:
            child.set_tags({"headwater.ablation": name, "headwater.subject": subject})
            child.log_metrics(found)
            links[subject] = f"{ui_address(params)}/#/experiments/{child.experiment_id}/runs/{child.id}?{MODEL_TRAINING}"
    return Row(name, figures, links)


def ui_address(params: Params) -> str:
    uri = tracking_uri(params)
    return uri.rstrip("/") if uri.startswith(("http://", "https://")) else LOCAL_UI


def show_table(rows: Sequence[Row], console: Console) -> None:
    """The paper's layout: a row per ablation, the full method last; then each subject's aligned PSNR, and the links."""
    rows = [row for row in rows if row.figures]
    subjects = sorted({subject for row in rows for subject in row.figures})
    table = Table("", "L2 x 1e3", "PSNR", "SSIM", "aligned PSNR", "SSIM", "inside the matte", "SSIM", "paper's PSNR", *subjects)
    for row in rows:
        paper = PRESETS[row.name].papers_psnr
        shown = (f"{row.mean(name):.4f}" if name.endswith("ssim") else f"{row.mean(name):.2f}" for name in SHOWN)
        own = (f"{1e3 * row.mean('l2'):.2f}", *shown)
        of_subjects = (f"{row.figures[s]['aligned_psnr']:.2f}" if s in row.figures else "-" for s in subjects)
        table.add_row(PRESETS[row.name].label, *own, f"{paper:.2f}" if paper else "-", *of_subjects)
    console.print(table)
    console.print(
        "Aligned: in poses that were moved to fit each avatar, as are the subjects' PSNR and what is inside the matte."
    )
    console.print("The paper's figures are of other people (INSTA's). Runs (with a file as store, start `headwater ui` first):")
    for row in rows:
        for subject, link in row.links.items():
            console.print(f"  {PRESETS[row.name].label} {subject}: {link}", highlight=False, soft_wrap=True)
