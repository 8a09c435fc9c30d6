"""What each stage has done, read from dvc.yaml, dvc.lock and the ledgers alone, so that it answers at once."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from pipelines.fanout.ledger import Ledger, load_ledger


class StatusError(ValueError):
    """There is no pipeline here."""


def show_status(console: Console) -> None:
    """Prints a table of the stages and what to do next. Raises StatusError outside of a project."""
    if not Path("dvc.yaml").exists():
        raise StatusError("no dvc.yaml here; run this in the project's folder")
    stages = yaml.safe_load(Path("dvc.yaml").read_text())["stages"]
    lock = Path("dvc.lock")
    locked: dict[str, Any] = (yaml.safe_load(lock.read_text()) or {}).get("stages", {}) if lock.exists() else {}
    table = Table("stage", "state", "items", "cached", "computed", "quarantined", "took")
    waiting = []
    for name in stages:
        ledger = load_ledger(name)
        done = name in locked and all(Path(out["path"]).exists() for out in locked[name].get("outs", []))
        running = (
            ledger is not None
            and ledger.finished is None
            and time.time() - Path(f".headwater/ledger/{name}.json").stat().st_mtime < 60
        )
        state = "[yellow]running[/yellow]" if running else "[green]done[/green]" if done else "to run"
        if not done:
            waiting.append(name)
        table.add_row(name, state, *ledger_columns(ledger))
    console.print(table)
    for name in stages:
        ledger = load_ledger(name)
        for reason, count in (ledger.reason_counts() if ledger else {}).items():
            console.print(f"{name}: {count} x {reason}; after mending: headwater retry {name} {reason}", highlight=False)
    if waiting:
        console.print(f"next: dvc repro ({', '.join(waiting)})")
    else:
        console.print("all stages have run; `dvc repro` runs again what has changed since")


def ledger_columns(ledger: Ledger | None) -> list[str]:
    """items, cached, computed, quarantined and time taken, or how long is left."""
    if ledger is None:
        return ["", "", "", "", ""]
    counts = [str(ledger.count(state)) for state in ("cached", "computed", "quarantined")]
    if ledger.finished is not None:
        took = duration(ledger.finished - ledger.started)
    else:
        ended = len(ledger.states) - ledger.count("waiting")
        spent = time.time() - ledger.started
        took = (
            f"{duration(spent)}, about {duration(spent / ended * ledger.count('waiting'))} left"
            if ended
            else f"{duration(spent)} so far"
        )
    return [str(len(ledger.states)), *counts, took]


def duration(seconds: float) -> str:
    """3.2 s, 4 min 05 s, 2 h 10 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} min {int(seconds % 60):02d} s"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60):02d} min"
