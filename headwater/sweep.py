"""`headwater sweep`: what it prints, the best values into params.yaml, and Optuna's dashboard."""

from __future__ import annotations

import shlex
import socket
from contextlib import suppress
from pathlib import Path

from rich.console import Console
from rich.table import Table

from headwater.profile import lay_over
from pipelines.params import load_params
from pipelines.sweeps.config import Sweep, SweepError, load_sweep, value_of
from pipelines.sweeps.results import best_values, choose_trial, importance, ranked_trials, result_files
from pipelines.sweeps.study import address_of, open_storage, settled_trials, shown
from pipelines.sweeps.sweep import SweepResult, run_sweep

PARAMS = Path("params.yaml")
BEST, OF_FRONT = 5, 10
"""Trials in the table: of a single objective, and of a Pareto front."""


def run_and_show(console: Console, path: Path, storage: str) -> None:
    """Runs a sweep, or what is left of it, and prints its best trials and what to do with them."""
    params = load_params()
    sweep = load_sweep(path, params)
    result = run_sweep(sweep, params, storage=storage)
    show(console, sweep, result)


def show(console: Console, sweep: Sweep, result: SweepResult) -> None:
    trials = settled_trials(result.study)
    states = ", ".join(
        f"{count} {name}"
        for name in ("complete", "pruned", "fail")
        if (count := sum(1 for trial in trials if trial.state.name.lower() == name))
    )
    console.print(f"study {sweep.name}: {len(trials)} trials ({states}), {result.kept} of them from before", highlight=False)
    if result.interrupted:
        numbers = ", ".join(map(str, result.interrupted))
        console.print(f"queued again, since the sweep was stopped while they ran: trials {numbers}", highlight=False)
    if result.trial_seconds:
        own = result.trial_seconds / result.slots
        console.print(
            f"{result.wall_seconds:.0f} s with {result.slots} trials side by side; "
            f"the trials' own time {result.trial_seconds:.0f} s, {own:.0f} s a slot",
            highlight=False,
        )
    if not result.best:
        console.print("no trial has completed yet; reasons of failures are in " + str(result_files(sweep.path).trials))
        return
    several = len(sweep.file.objectives) > 1
    table = Table("trial", *sweep.file.objectives, *sweep.space, title="Pareto front" if several else "best trials")
    for trial in ranked_trials(result.study)[: OF_FRONT if several else BEST]:
        table.add_row(
            str(trial.number),
            *(f"{value:.5g}" for value in trial.values),
            *(_short(trial.params[name]) for name in sweep.space),
        )
    console.print(table)
    for name, shares in importance(result.study).items():
        told = ", ".join(f"{key} {share:.0%}" for key, share in shares.items())
        console.print(f"what {name} depends on: {told}", highlight=False)
    say_what_next(console, sweep, result.best[0].number)


def say_what_next(console: Console, sweep: Sweep, best: int) -> None:
    """How to take over the values of the best trial, unless params.yaml has them."""
    values, file = best_values(sweep), result_files(sweep.path).best
    if values == {key: value_of(sweep.base, key) for key in values}:
        first = f"nothing better in {sweep.file.objectives[0]} than params.yaml was found: trial {best} has its values"
        console.print(first, highlight=False, soft_wrap=True)
        return
    console.print(f"{file} has the values of trial {best}. Next, one of:", highlight=False, soft_wrap=True)
    words = " ".join(f"-S {key}={shlex.quote(str(value))}" for key, value in sorted(values.items()))
    console.print(f"  headwater sweep {sweep.path} --apply && dvc repro", highlight=False, soft_wrap=True)
    console.print(f"  dvc exp run {words}", highlight=False, soft_wrap=True)


def apply_best(path: Path, trial: int | None) -> list[tuple[str, object, object]]:
    """Lays the best trial's values, or another's, over params.yaml; returns (key, before, after) of what changed."""
    params = load_params(PARAMS)
    sweep = load_sweep(path, params)
    if trial is not None:
        choose_trial(sweep, trial)
    values = best_values(sweep)
    sweep.params_of(values)  # someone may have edited the file
    return lay_over(PARAMS, values)


def serve_dashboard(console: Console, path: Path, storage: str, port: int) -> None:
    """Runs optuna-dashboard on the study, on this machine's loopback, until Ctrl-C. Raises SweepError."""
    try:
        from optuna_dashboard import run_server
    except ModuleNotFoundError:
        raise SweepError("optuna-dashboard is not installed: pip install 'headwater[dashboard]'") from None
    address = address_of(load_sweep(path, load_params()), storage)
    if "://" not in address and not Path(address).exists():
        raise SweepError(f"{address}: there is no study yet; run `headwater sweep {path}` first")
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            raise SweepError(f"port {port} is taken; name another with --port {port + 1}")
    console.print(f"optuna-dashboard on http://127.0.0.1:{port}, study in {shown(address)} (Ctrl-C ends it)", highlight=False)
    with suppress(KeyboardInterrupt):
        run_server(open_storage(address), host="127.0.0.1", port=port)


def _short(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
