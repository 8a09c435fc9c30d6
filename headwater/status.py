"""What each stage has done, read from small files alone (of DVC, params.yaml, ledgers), so that it answers at once."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Column, Table

from headwater.oldness import is_old, out_digests, stages_before
from pipelines.fanout.ledger import DVC_STAGE, Ledger, load_ledger
from pipelines.params import PARAMS_FILE, Params, ParamsError, load_params
from pipelines.stage_state import StageState, load_stage_state
from pipelines.yaml_files import YamlFileError, read_yaml

COLOURS = {"done": "green", "running": "yellow", "failed": "red", "killed": "red", "to run": "default", "old": "yellow"}


class StatusError(ValueError):
    """There is no pipeline here."""


def show_status(console: Console) -> None:
    """Prints a table of the stages and what to do next. Raises StatusError outside of a project."""
    if not Path("dvc.yaml").exists():
        raise StatusError("no dvc.yaml here; run this in the project's folder")
    try:
        stages, locked = declared_and_locked()
    except YamlFileError as error:
        raise StatusError(str(error)) from None
    lock, problem = Path("dvc.lock"), ""
    try:
        params = load_params()
    except ParamsError as error:
        problem = str(error)
    values, digests = {} if problem else read_yaml(PARAMS_FILE), out_digests(locked)
    names = (Column("stage", no_wrap=True), "state", "items", "cached", "computed", "quarantined", "took")
    table = Table(*names, box=SIMPLE, pad_edge=False)  # fits 80 columns
    waiting: list[str] = []
    states: dict[str, str] = {}
    for name in stages:
        last = load_stage_state(name)
        done = name in locked and all(Path(out["path"]).exists() for out in locked[name].get("outs", []))
        state = state_of(last, done, lock.stat().st_mtime if lock.exists() else 0.0)
        if state == "done" and (
            any(states.get(before, "done") != "done" for before in stages_before(name, stages))
            or (not problem and is_old(locked[name], digests, values))
        ):
            state = "old"
        states[name] = state
        if state != "done":
            waiting.append(name)
        ledger = load_ledger(name)
        left = time_left(ledger) if ledger and state == "running" else ""
        table.add_row(name, f"[{COLOURS[state]}]{state}[/]", *counts(ledger), time_taken(last) + left)
    console.print(table)
    for name in (*stages, *DVC_STAGE):
        last, ledger = load_stage_state(name), load_ledger(name)
        if last and states.get(name) == "failed":
            console.print(f"{name} failed: {last.error}", highlight=False, markup=False)
        for reason, count in (ledger.reason_counts() if ledger else {}).items():
            console.print(f"{name}: {count} x {reason}; after mending: headwater retry {name} {reason}", highlight=False)
    if problem:
        console.print(f"nothing runs until this is mended: {problem}", highlight=False, markup=False)
    elif failing := files_that_fail(params):
        for words in failing:
            console.print(words, highlight=False, markup=False)
    elif waiting:
        console.print(f"next: dvc repro ({', '.join(waiting)})")
    else:
        console.print("all stages have run with the values in params.yaml; `dvc repro` looks at videos and code too")


def files_that_fail(params: Params) -> list[str]:
    """Which stages would fail for a file that params.yaml names: DVC takes a stage's outs away before it can say so itself."""
    head, oneshot, tracked = params.preprocess, params.train_oneshot, params.track_nphm
    needed = (
        (head.head != "procedural", "preprocess", "head_file", head.head_file),
        (oneshot.steps > 0, "train_oneshot", "start_from", oneshot.start_from),
        (oneshot.steps > 0, "train_oneshot", "backbone_weights", oneshot.backbone_weights),
        (tracked.clouds == "files", "track_nphm", "cloud_files", tracked.cloud_files),
    )
    return [
        f"{stage} would fail: {stage}.{option}: {path} is not there"
        for in_use, stage, option, path in needed
        if in_use and path and not Path(path).exists()
    ]


def declared_and_locked() -> tuple[dict[str, Any], dict[str, Any]]:
    """The stages of dvc.yaml, and those of dvc.lock."""
    lock = Path("dvc.lock")
    locked = (read_yaml(lock) or {}) if lock.exists() else {}
    found = []
    for path, document in ((Path("dvc.yaml"), read_yaml(Path("dvc.yaml"))), (lock, locked)):
        stages = document.get("stages", {}) if isinstance(document, dict) else None
        if not isinstance(stages, dict):
            raise StatusError(f"{path}: no stages in it; get it back: git checkout {path}")
        found.append(stages)
    return found[0], found[1]


def state_of(last: StageState | None, done: bool, locked_at: float) -> str:
    """done, to run, running, failed or killed; that what is done is old is found elsewhere.

    A run that broke off is forgotten when all outs are there and dvc.lock is newer: then DVC brought them back itself.
    """
    if last and last.is_running():
        return "running"
    if last and not (done and locked_at > (last.finished or last.started)):
        if last.error:
            return "failed"
        if last.was_killed():
            return "killed"
    return "done" if done else "to run"


def time_taken(last: StageState | None) -> str:
    if last is None or last.was_killed():
        return ""
    return duration((last.finished or time.time()) - last.started)


def counts(ledger: Ledger | None) -> list[str]:
    """items, cached, computed and quarantined."""
    if ledger is None:
        return ["", "", "", ""]
    return [str(len(ledger.states)), *(str(ledger.count(state)) for state in ("cached", "computed", "quarantined"))]


def time_left(ledger: Ledger) -> str:
    """From the pace so far of what is not cached."""
    worked, waiting = ledger.count("computed") + ledger.count("quarantined"), ledger.count("waiting")
    if ledger.finished is not None or not worked:
        return ""
    return f", about {duration((time.time() - ledger.started) / worked * waiting)} left"


def duration(seconds: float) -> str:
    """3.2 s, 4 min 05 s, 2 h 10 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} min {int(seconds % 60):02d} s"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60):02d} min"
