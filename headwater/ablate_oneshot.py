"""`headwater ablate-oneshot`: trains every row of the one-shot model's table of ablations, and prints the table."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table

from headwater.ablate import AblationError, forgiving, link_to, wanted_rows
from pipelines.cache import Cache, DamagedEntry, Entry, absolute_uri
from pipelines.cluster import ray_cluster
from pipelines.csim_asset import say_csim_is_off
from pipelines.fanout import FanOutResult, Item, Step, run_and_assemble
from pipelines.lpips_asset import say_lpips_is_off
from pipelines.oneshot.ablation import (
    PRESETS,
    Figures,
    judge_step,
    judged_items,
    judging_subjects,
    means_of,
    with_preset,
)
from pipelines.oneshot.items import MODEL, model_item, model_step, say_what_is_off, weights_of
from pipelines.params import Compute, Params, load_params
from pipelines.runs import Run, stage_run
from pipelines.schedule import AS_LONG_AS_IT_TAKES_S

COLUMNS = {"psnr": "PSNR", "ssim": "SSIM", "lpips": "LPIPS", "csim": "CSIM", "akd": "AKD", "mouth_correlation": "mouth"}


@dataclass(frozen=True)
class Row:
    """One row of the table: the preset's name, its figures by test subject, its run, and who has none and why; or why nobody
    has."""

    name: str
    figures: Mapping[str, Figures] = field(default_factory=dict)
    link: str = ""
    left_out: Mapping[str, str] = field(default_factory=dict)
    lost: str = ""

    @property
    def label(self) -> str:
        return PRESETS[self.name].label


def ablate_oneshot(
    steps: int, console: Console, retry: Collection[str] | None = None, rows_named: Sequence[str] = ()
) -> list[Row]:
    """Trains and judges the models of the named rows, of all where none is named; what the cache holds is not done again, but
    for failures of the reasons in `retry`.

    Raises AblationError, and all that a stage may raise.
    """
    presets = wanted_rows(PRESETS, rows_named)
    params = load_params()
    if not steps and not params.train_oneshot.steps:
        raise AblationError("train_oneshot.steps is 0: say how long each row is trained, --steps 3000 for instance")
    if params.train_oneshot.start_from:
        raise AblationError("train_oneshot.start_from names a model, whose variant all rows would have; empty it first")
    if not judging_subjects(params):
        raise AblationError("nobody is kept out of training, so nobody can judge: see train_oneshot.test_subjects")
    say_what_is_off(params)
    say_lpips_is_off(params)
    say_csim_is_off(params.evaluate)
    rows = []
    with stage_run("ablate_oneshot", params, "ablate") as run, ray_cluster():
        for number, name in enumerate(presets, 1):
            console.print(f"row {number} of {len(presets)}: {PRESETS[name].label}", highlight=False)
            rows.append(one_row(name, with_preset(params, name, steps), run, retry))
    if not any(row.figures for row in rows):
        raise AblationError(
            "no model could be trained and judged; the tables above have the reasons. After mending: "
            "headwater ablate-oneshot --retry REASON"
        )
    show_table(rows, console)
    return rows


def one_row(name: str, params: Params, run: Run, retry: Collection[str] | None) -> Row:
    """One preset, with a run of its own in MLflow. It is trained, then judged: a small machine has no room for both at once."""
    compute = forgiving(params.compute).model_copy(update={"item_timeout_s": AS_LONG_AS_IT_TAKES_S})
    models = fanned_out(model_step(params), [model_item(params)], compute, "models", retry)
    run.log_fan_out(models, prefix=f"{name}.")
    if not models.entries:
        return Row(name, lost=", ".join(failure.reason for failure in models.quarantined))
    model = models.last(MODEL)
    if is_damaged(model):
        Cache(absolute_uri(params.compute.cache)).forget(model.key)
        return one_row(name, params, run, retry)
    return judged_row(name, params, model, run, retry)


def judged_row(name: str, params: Params, model: Entry, run: Run, retry: Collection[str] | None) -> Row:
    """A row of a model that is there."""
    judged = judge_step(params, model)
    result = fanned_out(judged, judged_items(params, model), forgiving(params.compute), "subjects", retry)
    run.log_fan_out(result, prefix=f"{name}.judged.")
    figures = {subject: result.last(subject).summary for subject in result.entries}
    left_out = {failure.item: failure.reason for failure in result.quarantined}
    if not figures:
        return Row(name, lost=", ".join(sorted(set(left_out.values()))))
    with run.child(name, {"train_oneshot": params.model_dump(mode="json")["train_oneshot"]}) as child:
        child.set_tags({"headwater.ablation": name})
        child.log_assets({**weights_of(params), **judged.assets})
        child.log_metrics({**means_of(figures, figures), "subjects": float(len(figures))})
        link = link_to(child, params)
    return Row(name, figures, link, left_out)


def is_damaged(model: Entry) -> bool:
    """Whether a byte of a model has changed since it was written; said where it has."""
    try:
        for file in model.files:
            model.read_bytes(file)
    except DamagedEntry as error:
        print(error, flush=True)
        return True
    return False


def fanned_out(step: Step, items: Sequence[Item], compute: Compute, things: str, retry: Collection[str] | None) -> FanOutResult:
    """A step that may fail on all items."""
    return run_and_assemble(
        "ablate_oneshot", [step], items, lambda found: None, compute=compute, things=things, retry=retry, may_all_fail=True
    )[0]


def show_table(rows: Sequence[Row], console: Console) -> None:
    """Means in the paper's layout, the paper's own beside them, and links to the runs.

    Means are over the test subjects that all of these rows have, so that rows differ in nothing else; who is left out is said.
    """
    shown = [row for row in rows if row.figures]
    shared = sorted(set.intersection(*(set(row.figures) for row in shown)))
    if shared:
        show_means(shown, shared, console)
    else:
        console.print("There are no means: no test subject is in all rows.")
    for row in rows:
        if row.lost:
            console.print(f"{row.label} has no row: {row.lost}.", highlight=False, markup=False)
    show_left_out(shown, console)
    console.print(
        "The paper's method is the row GAGAvatar; the ablations above it have the photo's colours too.", highlight=False
    )
    console.print("The paper's figures are of VFHQ. Runs (with a file as store, start `headwater ui` first):", highlight=False)
    for row in shown:
        console.print(f"  {row.label}: {row.link}", highlight=False, soft_wrap=True)


def show_means(rows: Sequence[Row], subjects: Sequence[str], console: Console) -> None:
    """The table of means over subjects that every row has, of the figures that all rows have."""
    means = [means_of(row.figures, subjects) for row in rows]
    columns = [name for name in COLUMNS if all(name in own for own in means)]
    table = Table("", *(COLUMNS[name] for name in columns), "paper's PSNR", "SSIM", "LPIPS")
    for row, own in zip(rows, means, strict=True):
        papers = PRESETS[row.name].papers
        beside = ("-", "-", "-") if papers is None else (f"{papers[0]:.2f}", f"{papers[1]:.3f}", f"{papers[2]:.3f}")
        words = (f"{own[name]:.2f}" if name in ("psnr", "akd") else f"{own[name]:.3f}" for name in columns)
        table.add_row(row.label, *words, *beside)
    console.print(table)


def show_left_out(rows: Sequence[Row], console: Console) -> None:
    """Says which test subjects are in no mean, and why."""
    for subject in sorted({subject for row in rows for subject in row.left_out}):
        why = ", ".join(f"{row.label}: {row.left_out[subject]}" for row in rows if subject in row.left_out)
        console.print(f"{subject} is left out of the means ({why}).", highlight=False, markup=False, soft_wrap=True)
