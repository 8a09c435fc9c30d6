"""How a stage's last run on this machine went, for `headwater status`: a small file that needs no MLflow to be read."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import psutil

from pipelines.atomic import write_bytes_atomic

FOLDER = Path(".headwater/stages")


@dataclass(frozen=True)
class StageState:
    """One run of a stage. `error` is empty unless it failed; `finished` is None while it runs, or when it was killed."""

    pid: int
    created: float  # birth of the process, Unix seconds: numbers of processes are used again
    started: float
    finished: float | None = None
    error: str = ""

    def is_running(self) -> bool:
        return self.finished is None and is_alive(self.pid, self.created)

    def was_killed(self) -> bool:
        return self.finished is None and not is_alive(self.pid, self.created)


@contextmanager
def stage_state(stage: str) -> Iterator[None]:
    """Keeps the file of a stage that runs in this process."""
    process = psutil.Process()
    started = time.time()

    def save(finished: float | None, error: str = "") -> None:
        state = StageState(process.pid, process.create_time(), started, finished, error)
        write_bytes_atomic(FOLDER / f"{stage}.json", json.dumps(asdict(state)).encode())

    save(None)
    try:
        yield
    except BaseException as error:
        save(time.time(), describe(error))
        raise
    save(time.time())


def load_stage_state(stage: str) -> StageState | None:
    """None where the stage never ran here."""
    path = FOLDER / f"{stage}.json"
    if not path.exists():
        return None
    stored = json.loads(path.read_text())
    return StageState(**{known.name: stored[known.name] for known in fields(StageState) if known.name in stored})


def describe(error: BaseException) -> str:
    """An error in one short line."""
    if isinstance(error, KeyboardInterrupt):
        return "stopped by Ctrl-C"
    return " ".join(f"{type(error).__name__}: {error}".split())[:500]


def is_alive(pid: int, created: float) -> bool:
    """Whether the process that had this number and birth still runs."""
    try:
        process = psutil.Process(pid)
        return abs(process.create_time() - created) < 1.0 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
