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
from pipelines.evaluation import LPIPS
from pipelines.fanout import Item, run_and_assemble
from pipelines.lpips_asset import ON_TAG, lpips_assets, say_lpips_is_off
from pipelines.params import Params, load_params
from pipelines.perceptual_asset import perceptual_is_off, say_what_is_off
from pipelines.runs import Run, stage_run
from pipelines.tracking import MODEL_TRAINING, tracking_uri
from pipelines.training_items import training_items, training_step

LOCAL_UI = "http://127.0.0.1:5000"
"""Where `headwater ui` shows a store that is a file."""
LPIPS_TITLES = {"lpips": "LPIPS", "aligned_lpips": "aligned LPIPS"}


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
    say_lpips_is_off(params)
    names = [name for name in PRESETS if name != "no_perceptual" or not without_perceptual]
    rows = []
    with stage_run("ablate", params) as run, ray_cluster():
        run.log_params({"subjects": ", ".join(item.id for item in items), "steps": steps or wanted.steps}, "ablate")
        run.log_assets(lpips_assets(params))
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
            on = str("lpips" in found).lower()
            child.set_tags({"headwater.ablation": name, "headwater.subject": subject, ON_TAG: on})
            child.log_metrics(found)
            links[subject] = f"{ui_address(params)}/#/experiments/{child.experiment_id}/runs/{child.id}?{MODEL_TRAINING}"
    return Row(name, figures, links)


def ui_address(params: Params) -> str:
    uri = tracking_uri(params)
    return uri.rstrip("/") if uri.startswith(("http://", "https://")) else LOCAL_UI


def show_table(rows: Sequence[Row], console: Console) -> None:
    """The paper's layout, a row per ablation, then the method and what goes beyond it; the same rows in poses that fit each
    avatar; each subject's aligned PSNR; links. LPIPS where it is on. Each table fits into 80 columns."""
    rows = [row for row in rows if row.figures]
    lpips = [name for name in LPIPS if rows and all(name in found for row in rows for found in row.figures.values())]
    tracked = Table("", "L2 x 1e3", "PSNR", "SSIM", *(LPIPS_TITLES[name] for name in lpips[:1]), "paper's PSNR")
    aligned = Table("", "aligned PSNR", "SSIM", "inside the matte", "SSIM", *(LPIPS_TITLES[name] for name in lpips[1:]))
    for row in rows:
        label, paper = PRESETS[row.name].label, PRESETS[row.name].papers_psnr
        shown = [f"{row.mean(name):.2f}" if name.endswith("psnr") else f"{row.mean(name):.4f}" for name in (*SHOWN, *lpips)]
        (psnr, ssim, *fitting), distances = shown[: len(SHOWN)], shown[len(SHOWN) :]
        tracked.add_row(label, f"{1e3 * row.mean('l2'):.2f}", psnr, ssim, *distances[:1], f"{paper:.2f}" if paper else "-")
        aligned.add_row(label, *fitting, *distances[1:])
    of_subjects = Table("aligned PSNR", *(PRESETS[row.name].label for row in rows))
    for subject in sorted({subject for row in rows for subject in row.figures}):
        figures = (f"{row.figures[subject]['aligned_psnr']:.2f}" if subject in row.figures else "-" for row in rows)
        of_subjects.add_row(subject, *figures)
    for table in (tracked, aligned, of_subjects):
        console.print(table)
    console.print("Aligned: in poses that were moved to fit each avatar, as is what is inside the matte.")
    console.print("Poses are corrected in training in all rows (pose_rate), which the paper does not do.")
    console.print("The paper's figures are of other people (INSTA's). Runs (with a file as store, start `headwater ui` first):")
    for row in rows:
        for subject, link in row.links.items():
            console.print(f"  {PRESETS[row.name].label} {subject}: {link}", highlight=False, soft_wrap=True)
