"""`headwater ablate-oneshot`: trains every row of the one-shot model's table of ablations, and prints the table."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from headwater.ablate import AblationError, forgiving, link_to
from pipelines.cache import Cache, DamagedEntry, Entry, absolute_uri
from pipelines.cluster import ray_cluster
from pipelines.csim_asset import say_csim_is_off
from pipelines.fanout import FanOutResult, Item, Step, run_and_assemble
from pipelines.lpips_asset import say_lpips_is_off
from pipelines.oneshot.ablation import PRESETS, judge_step, judged_item, judging_subjects, with_preset
from pipelines.oneshot.items import MODEL, model_item, model_step, say_what_is_off
from pipelines.params import Params, load_params
from pipelines.runs import Run, stage_run
from pipelines.schedule import AS_LONG_AS_IT_TAKES_S

COLUMNS = {"psnr": "PSNR", "ssim": "SSIM", "lpips": "LPIPS", "csim": "CSIM", "akd": "AKD", "mouth_correlation": "mouth"}


@dataclass(frozen=True)
class Row:
    """One row of the table: the preset's name, its means over the test subjects, and its run; or why it has none."""

    name: str
    figures: Mapping[str, float]
    link: str = ""
    lost: str = ""


def ablate_oneshot(steps: int, console: Console, retry: Collection[str] | None = None) -> list[Row]:
    """Trains and judges each row's model; what the cache holds is not done again, but for failures of the reasons in `retry`.

    Raises AblationError, and all that a stage may raise.
    """
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
        for number, name in enumerate(PRESETS, 1):
            console.print(f"row {number} of {len(PRESETS)}: {PRESETS[name].label}", highlight=False)
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
    trained = model_step(params)
    models = fanned_out(trained, model_item(params), params, run, f"{name}.", retry)
    if not models.entries:
        return Row(name, {}, lost=", ".join(failure.reason for failure in models.quarantined))
    model = models.last(MODEL)
    if is_damaged(model):
        Cache(absolute_uri(params.compute.cache)).forget(model.key)
        return one_row(name, params, run, retry)
    judged = judge_step(params, model)
    figures = fanned_out(judged, judged_item(model), params, run, f"{name}.judged.", retry)
    if not figures.entries:
        return Row(name, {}, lost=", ".join(failure.reason for failure in figures.quarantined))
    means = dict(figures.last(MODEL).summary)
    with run.child(name, {"train_oneshot": params.model_dump(mode="json")["train_oneshot"]}) as child:
        child.set_tags({"headwater.ablation": name})
        child.log_assets({**trained.assets, **judged.assets})
        child.log_metrics(means)
        link = link_to(child, params)
    return Row(name, means, link)


def is_damaged(model: Entry) -> bool:
    """Whether a byte of a model has changed since it was written; said where it has."""
    try:
        for file in model.files:
            model.read_bytes(file)
    except DamagedEntry as error:
        print(error, flush=True)
        return True
    return False


def fanned_out(step: Step, item: Item, params: Params, run: Run, prefix: str, retry: Collection[str] | None) -> FanOutResult:
    """The one item of a step."""
    compute = forgiving(params.compute).model_copy(update={"item_timeout_s": AS_LONG_AS_IT_TAKES_S})
    result, _ = run_and_assemble(
        "ablate_oneshot", [step], [item], lambda found: None, compute=compute, things="models", retry=retry, may_all_fail=True
    )
    run.log_fan_out(result, prefix=prefix)
    return result


def show_table(rows: Sequence[Row], console: Console) -> None:
    """Means over the test subjects in the paper's layout, the paper's own beside them, and links to the runs."""
    shown = [row for row in rows if row.figures]
    columns = [name for name in COLUMNS if all(name in row.figures for row in shown)]
    table = Table("", *(COLUMNS[name] for name in columns), "paper's PSNR", "SSIM", "LPIPS")
    for row in shown:
        papers = PRESETS[row.name].papers
        beside = ("-", "-", "-") if papers is None else (f"{papers[0]:.2f}", f"{papers[1]:.3f}", f"{papers[2]:.3f}")
        own = (f"{row.figures[name]:.2f}" if name in ("psnr", "akd") else f"{row.figures[name]:.3f}" for name in columns)
        table.add_row(PRESETS[row.name].label, *own, *beside)
    console.print(table)
    for row in rows:
        if row.lost:
            console.print(f"{PRESETS[row.name].label} has no row: {row.lost}.", highlight=False, markup=False)
    console.print("The paper's figures are of VFHQ. Runs (with a file as store, start `headwater ui` first):", highlight=False)
    for row in shown:
        console.print(f"  {PRESETS[row.name].label}: {row.link}", highlight=False, soft_wrap=True)
