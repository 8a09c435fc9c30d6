"""The parent run of a `dvc repro`: made by its first stage, found again by the others, closed with the truth.

The stages of one `dvc repro` are processes that know nothing of each other. What they share is the dvc process above
them, so `.headwater/runs/PID-CREATED.json` holds the parent run's id under that process's number and birth.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from pipelines.atomic import write_bytes_atomic
from pipelines.stage_state import is_alive
from pipelines.tracking import project_root, tracking_lock

ERROR_TAG, PARENT_TAG = "headwater.error", "mlflow.parentRunId"
KIND_TAG, REPRO, STAGE, SUBJECT = "headwater.kind", "repro", "stage", "subject"
SWEEP, TRIAL = "sweep", "trial"
PAGE = 1000


def owner() -> psutil.Process:
    """The nearest process above this one that is dvc; outside of dvc, this process itself."""
    for process in psutil.Process().parents():
        try:
            words = process.cmdline()[:3]
        except psutil.Error:
            continue
        if any(Path(word).name == "dvc" for word in words):
            return process
    return psutil.Process()


def known_parent(uri: str) -> str | None:
    """The run id that an earlier stage of this `dvc repro` left, if it is in the same store."""
    process = owner()
    path = _path_for(process)
    if process.pid == os.getpid() or not path.exists():
        return None
    known = json.loads(path.read_text())
    return known["run_id"] if known["uri"] == uri else None


def remember_parent(run_id: str, uri: str) -> None:
    process = owner()
    facts = {"run_id": run_id, "uri": uri, "host": platform.node(), "pid": process.pid, "created": process.create_time()}
    write_bytes_atomic(_path_for(process), json.dumps(facts).encode())


def forget_parent() -> None:
    """For a parent run that this process has closed itself."""
    _path_for(owner()).unlink(missing_ok=True)


def close_abandoned(client: Any, experiment_id: str, uri: str) -> None:
    """Marks as KILLED what still claims to run although its process on this machine is gone."""
    with tracking_lock():
        for path in sorted(_folder().glob("*.json")):
            known = json.loads(path.read_text())
            if known["host"] != platform.node() or is_alive(known["pid"], known["created"]):
                continue
            if known["uri"] == uri and is_stored(client, known["run_id"]):
                close_parent(client, experiment_id, known["run_id"])
            path.unlink()


def is_stored(client: Any, run_id: str) -> bool:
    """Whether the store still has the run: its database may have been deleted since, and a new one begun."""
    from mlflow import MlflowException

    try:
        client.get_run(run_id)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise
    return True


def close_parent(client: Any, experiment_id: str, run_id: str) -> None:
    """Ends a parent run whose stages have ended: FINISHED only if all of them did.

    A stage below it, or a subject below that, that still claims to run was killed, and says so from now on.
    """
    failed = ""
    for stage in children(client, experiment_id, run_id):
        for subject in children(client, experiment_id, stage.info.run_id):
            if subject.info.status == "RUNNING":
                client.set_tag(subject.info.run_id, ERROR_TAG, "killed with its driver")
                client.set_terminated(subject.info.run_id, "KILLED")
        if stage.info.status == "RUNNING":
            client.set_terminated(stage.info.run_id, "KILLED")
        if stage.info.status != "FINISHED":
            failed = failed or stage.data.tags.get(ERROR_TAG) or f"{stage.info.run_name} was killed"
    if failed:
        client.set_tag(run_id, ERROR_TAG, failed)
    client.set_terminated(run_id, "FAILED" if failed else "FINISHED")


def children(client: Any, experiment_id: str, run_id: str) -> Iterator[Any]:
    """The runs right below a run, oldest first."""
    return search(client, experiment_id, f"tags.`{PARENT_TAG}` = '{run_id}'", "attributes.start_time ASC")


def search(client: Any, experiment_id: str, condition: str, order: str) -> Iterator[Any]:
    """All runs of an experiment that fulfil a condition, whatever their number."""
    token = None
    while True:
        page = client.search_runs([experiment_id], condition, max_results=PAGE, order_by=[order], page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _folder() -> Path:
    return project_root() / ".headwater" / "runs"


def _path_for(process: psutil.Process) -> Path:
    return _folder() / f"{process.pid}-{int(process.create_time() * 1000)}.json"
