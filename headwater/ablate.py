"""`headwater ablate`: trains every row of HeadGaS's table of ablations on some subjects, and prints the table."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from rich.console import Console
from rich.table import Table

from pipelines.ablation import PRESETS, SHOWN, figures_of, judge_step, with_preset
from pipelines.cluster import ray_cluster
from pipelines.csim_asset import csim_assets, csim_tag, say_csim_is_off
from pipelines.evaluation import LPIPS
from pipelines.fanout import Item, run_and_assemble
from pipelines.lpips_asset import ON_TAG as LPIPS_TAG
from pipelines.lpips_asset import lpips_assets, say_lpips_is_off
from pipelines.nearest import did_you_mean
from pipelines.params import Compute, Params, load_params
from pipelines.perceptual_asset import ON_TAG as PERCEPTUAL_TAG
from pipelines.perceptual_asset import perceptual_asset, perceptual_is_off, say_what_is_off
from pipelines.runs import Run, stage_run
from pipelines.tracking import MODEL_TRAINING, tracking_uri
from pipelines.training_items import training_items, training_step

LOCAL_UI = "http://127.0.0.1:5000"
"""Where `headwater ui` shows a store that is a file."""
LPIPS_TITLES = {"lpips": "LPIPS", "aligned_lpips": "aligned LPIPS"}


class AblationError(ValueError):
    """A subject that is not there, or no subject left in any row; the message says what to do."""


@dataclass(frozen=True)
class Row:
    """One row of the table: the preset's name, figures by subject, links to the runs, and why subjects have no figures."""

    name: str
    figures: dict[str, dict[str, float]]
    links: dict[str, str]
    lost: dict[str, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        return PRESETS[self.name].label

    def mean(self, figure: str, subjects: Collection[str]) -> float:
        return float(np.mean([self.figures[subject][figure] for subject in subjects]))


def ablate(
    subjects: Sequence[str], steps: int, console: Console, retry: Collection[str] | None = None, rows_named: Sequence[str] = ()
) -> list[Row]:
    """Trains and judges the avatars of the named rows over Ray, of all where none is named; what the cache holds is not done
    again, but for failures of the reasons that `retry` names.

    Raises AblationError, and all that a stage may raise.
    """
    presets = wanted_rows(PRESETS, rows_named)
    params = load_params()
    items = chosen(subjects, training_items())
    wanted = params.train_headgas
    without_perceptual = perceptual_is_off(wanted)
    if wanted.lambda_perceptual > 0:
        say_what_is_off(wanted)
    say_lpips_is_off(params)
    say_csim_is_off(params.evaluate)
    names = [name for name in presets if name != "no_perceptual" or not without_perceptual]
    if not names:
        raise AblationError("w/o L_p is as the method is: the perceptual term is off in all rows")
    rows = []
    with stage_run("ablate", params, "ablate") as run, ray_cluster():
        run.log_params({"subjects": ", ".join(item.id for item in items), "steps": steps or wanted.steps}, "ablate")
        run.log_assets(loaded(params))
        for number, name in enumerate(names, 1):
            console.print(f"row {number} of {len(names)}: {PRESETS[name].label}", highlight=False)
            rows.append(one_row(name, with_preset(params, name, steps), items, run, retry))
        if not any(row.figures for row in rows):
            raise AblationError(
                "no avatar could be trained and judged; the tables above have the reasons. After mending: "
                "headwater ablate --retry REASON"
            )
    if without_perceptual and "no_perceptual" in presets:
        console.print("w/o L_p is left out: the perceptual term is off in all rows", highlight=False)
    show_table(rows, console, poses_corrected=wanted.pose_rate > 0)
    return rows


def chosen(subjects: Sequence[str], tracked: Sequence[Item]) -> list[Item]:
    """The items of the named subjects among those that were tracked; of all where none is named."""
    items = {item.id: item for item in tracked}
    for subject in subjects:
        if subject not in items:
            hint = did_you_mean(subject, items, "None has been tracked: dvc repro preprocess")
            raise AblationError(f"no tracked subject {subject!r}. {hint}")
    return [items[subject] for subject in dict.fromkeys(subjects)] or list(items.values())


def wanted_rows(presets: Iterable[str], names: Sequence[str]) -> list[str]:
    """The named rows in the table's order; all where none is named. Raises AblationError for a name that is no row's."""
    rows = list(presets)
    for name in names:
        if name not in rows:
            raise AblationError(f"no row is called {name!r}. {did_you_mean(name, rows)}")
    return [name for name in rows if name in names] or rows


def loaded(params: Params) -> dict[str, str]:
    """The model files of training and judging."""
    return perceptual_asset(params.train_headgas) | lpips_assets(params) | csim_assets(params.evaluate)


def forgiving(compute: Compute) -> Compute:
    """For a row of a table of ablations: who fails is told below the table, however many they are, and the other rows go on."""
    return compute.model_copy(update={"max_quarantined": 1.0})


def one_row(name: str, params: Params, items: Sequence[Item], run: Run, retry: Collection[str] | None) -> Row:
    """One preset on all subjects, with a run for each in MLflow."""
    steps = [training_step(params), judge_step(params)]
    compute = forgiving(params.compute)
    result, figures = run_and_assemble(
        "ablate", steps, items, figures_of, compute=compute, things="subjects", retry=retry, may_all_fail=True
    )
    run.log_fan_out(result, prefix=f"{name}.")
    links = {}
    for subject, found in figures.items():
        with run.child(f"{name} {subject}", {"train_headgas": params.train_headgas.as_key()}) as child:
            trained = result.entries[subject][0].summary
            switched = {LPIPS_TAG: "lpips" in found, PERCEPTUAL_TAG: bool(trained["perceptual_loss"])}
            words = {tag: str(on).lower() for tag, on in switched.items()}
            words |= csim_tag(params.evaluate)
            child.set_tags({"headwater.ablation": name, "headwater.subject": subject, **words})
            child.log_assets(loaded(params))
            child.log_metrics(found)
            links[subject] = link_to(child, params)
    return Row(name, figures, links, {failure.item: failure.reason for failure in result.quarantined})


def link_to(run: Run, params: Params) -> str:
    """Where MLflow shows a run's curves."""
    uri = tracking_uri(params)
    ui = uri.rstrip("/") if uri.startswith(("http://", "https://")) else LOCAL_UI
    return f"{ui}/#/experiments/{run.experiment_id}/runs/{run.id}?{MODEL_TRAINING}"


def show_table(rows: Sequence[Row], console: Console, *, poses_corrected: bool) -> None:
    """The paper's layout, a row per ablation, then the method and what goes beyond it; the same rows in poses that fit each
    avatar; each subject's aligned PSNR; links. LPIPS where it is on. Each table fits into 80 columns.

    Means are over the subjects that all of these rows have, so that rows differ in nothing else; who is left out is said.
    """
    shown = [row for row in rows if row.figures]
    everyone = sorted({subject for row in shown for subject in row.figures})
    shared = [subject for subject in everyone if all(subject in row.figures for row in shown)]
    if shared:
        show_means(shown, shared, console)
    of_subjects = Table("aligned PSNR", *(row.label for row in shown))
    for subject in everyone:
        figures = (f"{row.figures[subject]['aligned_psnr']:.2f}" if subject in row.figures else "-" for row in shown)
        of_subjects.add_row(subject, *figures)
    console.print(of_subjects)
    show_left_out(rows, everyone, shared, console)
    console.print("Aligned: in poses that were moved to fit each avatar, as is what is inside the matte.")
    if poses_corrected:
        console.print("Poses are corrected in training in all rows (pose_rate), which the paper does not do.")
    console.print("The paper's figures are of other people (INSTA's). Runs (with a file as store, start `headwater ui` first):")
    for row in shown:
        for subject, link in row.links.items():
            console.print(f"  {row.label} {subject}: {link}", highlight=False, soft_wrap=True)


def show_means(rows: Sequence[Row], subjects: Sequence[str], console: Console) -> None:
    """Two tables of means over subjects that every row has: in the tracked poses, and in poses that fit each avatar."""
    lpips = [name for name in LPIPS if all(name in row.figures[subject] for row in rows for subject in subjects)]
    tracked = Table("", "L2 x 1e3", "PSNR", "SSIM", *(LPIPS_TITLES[name] for name in lpips[:1]), "paper's PSNR")
    aligned = Table("", "aligned PSNR", "SSIM", "inside the matte", "SSIM", *(LPIPS_TITLES[name] for name in lpips[1:]))
    for row in rows:
        paper, means = PRESETS[row.name].papers_psnr, {name: row.mean(name, subjects) for name in ("l2", *SHOWN, *lpips)}
        words = [f"{means[name]:.2f}" if name.endswith("psnr") else f"{means[name]:.4f}" for name in (*SHOWN, *lpips)]
        (psnr, ssim, *fitting), distances = words[: len(SHOWN)], words[len(SHOWN) :]
        tracked.add_row(row.label, f"{1e3 * means['l2']:.2f}", psnr, ssim, *distances[:1], f"{paper:.2f}" if paper else "-")
        aligned.add_row(row.label, *fitting, *distances[1:])
    for table in (tracked, aligned):
        console.print(table)


def show_left_out(rows: Sequence[Row], everyone: Sequence[str], shared: Sequence[str], console: Console) -> None:
    """Says which subjects are in no mean, which rows have no figures, and why."""
    for subject in everyone:
        if subject not in shared:
            why = ", ".join(f"{row.label}: {row.lost[subject]}" for row in rows if row.figures and subject in row.lost)
            told = f"{subject} is left out of the means, since not all rows have it ({why})."
            console.print(told, highlight=False, markup=False, soft_wrap=True)
    for row in rows:
        if not row.figures:
            why = ", ".join(f"{subject}: {reason}" for subject, reason in row.lost.items())
            told = f"{row.label} has no row, since it failed on every subject ({why})."
            console.print(told, highlight=False, markup=False, soft_wrap=True)
    if everyone and not shared:
        console.print("There are no means: no subject is in all rows.")
