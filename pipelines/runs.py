"""MLflow: one parent run for each `dvc repro`, a nested run per stage, and one per subject below it.

Only the process that runs a stage talks to MLflow, so each run has one writer. The parent is found again by the stages
that follow through the dvc process above them. mlflow takes seconds to import, so it is imported when a run begins.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from pipelines.atomic import write_bytes_atomic
from pipelines.cost import cost_of
from pipelines.fanout import FanOutResult
from pipelines.lineage import (
    detector_hashes,
    dvc_lock_digest,
    git_commit,
    package_versions,
    stage_inputs,
)
from pipelines.params import Params

RUNS_FOLDER = Path(".headwater/runs")
LOCK = Path(".headwater/mlflow.lock")
STAGE_TAG, KIND_TAG = "headwater.stage", "headwater.kind"
MAX_VALUE = 500  # characters of a parameter's value
BATCH = 1000  # metrics in one call


def tracking_uri(params: Params) -> str:
    """MLFLOW_TRACKING_URI, or what params.yaml says."""
    return os.environ.get("MLFLOW_TRACKING_URI") or params.tracking.uri


def connect(params: Params) -> Any:
    """An MlflowClient on the tracking store, which is made on first use by one process at a time."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    import logging

    for name in (
        "mlflow.tracking._model_registry.client",
        "mlflow.store.model_registry",
        "mlflow.models",
        "alembic",
        "mlflow.store.db.utils",
        "mlflow.system_metrics",
    ):
        logging.getLogger(name).setLevel(logging.WARNING)
    import mlflow

    uri = tracking_uri(params)
    mlflow.set_tracking_uri(uri)
    LOCK.parent.mkdir(parents=True, exist_ok=True)
    with LOCK.open("w") as lock:
        # A fresh SQLite store migrates itself when it is opened first; two processes at once would both fail.
        fcntl.flock(lock, fcntl.LOCK_EX)
        client = mlflow.MlflowClient(uri)
        if client.get_experiment_by_name(params.tracking.experiment) is None:
            try:
                client.create_experiment(params.tracking.experiment)
            except mlflow.MlflowException:  # another machine was faster
                if client.get_experiment_by_name(params.tracking.experiment) is None:
                    raise
    return client


class Run:
    """One MLflow run that this process writes."""

    def __init__(self, client: Any, run_id: str, experiment_id: str) -> None:
        self.client, self.id, self.experiment_id = client, run_id, experiment_id

    def log_params(self, block: Mapping[str, Any], prefix: str = "") -> None:
        """Parameters flat and named as in params.yaml: train_headgas.steps."""
        from mlflow.entities import Param

        flat = [Param(name, str(value)[:MAX_VALUE]) for name, value in flatten(block, prefix).items()]
        self.client.log_batch(self.id, params=flat)

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        self.log_curve([{"step": step, **metrics}])

    def log_curve(self, points: Sequence[Mapping[str, float]]) -> None:
        """Metrics over steps; each point has a `step` and any figures."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        rows = [
            Metric(name, float(value), now, int(point["step"]))
            for point in points
            for name, value in point.items()
            if name != "step"
        ]
        for start in range(0, len(rows), BATCH):
            self.client.log_batch(self.id, metrics=rows[start : start + BATCH])

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        if path.is_dir():
            self.client.log_artifacts(self.id, str(path), folder or path.name)
        else:
            self.client.log_artifact(self.id, str(path), folder)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        self.client.log_batch(self.id, tags=[RunTag(name, str(value)) for name, value in tags.items()])

    def log_datasets(self, stage: str) -> None:
        """The stage's dependencies as MLflow inputs, with DVC's digests."""
        from mlflow.entities import Dataset, DatasetInput

        inputs = [
            DatasetInput(Dataset(found.path, found.digest[:36] or "none", "local", json.dumps({"uri": found.path})))
            for found in stage_inputs(stage)
        ]
        if inputs:
            self.client.log_inputs(self.id, inputs)

    def log_fan_out(self, result: FanOutResult, fps: float | None = None) -> None:
        """Counts and cost of a fan-out; fps is the rate of the video that was worked on."""
        cost = cost_of(result)
        counts = {
            "items.cached": result.cached,
            "items.computed": result.computed,
            "items.quarantined": len(result.quarantined),
        }
        self.log_metrics({**counts, "items.retries": result.retries, "cost.wall_seconds": cost.wall_seconds})
        if not cost.seconds_per_frame:
            return
        self.log_metrics({f"cost.{step}.seconds_per_frame": value for step, value in cost.seconds_per_frame.items()})
        self.set_tags({"headwater.bottleneck": cost.bottleneck})
        if fps:
            self.log_metrics({"cost.clip_hours_per_day_per_worker": cost.clip_hours_per_day(fps)})

    def log_avatar(self, folder: Path) -> None:
        """Registers the avatar of a folder as the next version of the model `headgas-SUBJECT`."""
        import mlflow

        import avatar_models

        package = Path(avatar_models.__file__ or "").parent
        with warnings.catch_warnings(), mlflow.start_run(run_id=self.id):
            warnings.simplefilter("ignore", UserWarning)  # a rendered picture has no column types to infer
            mlflow.pyfunc.log_model(
                name="avatar",
                python_model=str(Path(__file__).with_name("avatar_pyfunc.py")),
                artifacts={"avatar": str(folder)},
                code_paths=[str(package)],
                registered_model_name=f"headgas-{folder.name}",
                pip_requirements=[f"{name}=={package_versions()[name]}" for name in ("torch", "numba")] + ["safetensors"],
            )

    @contextmanager
    def child(self, name: str) -> Iterator[Run]:
        """A nested run, FINISHED or FAILED when the block ends."""
        run = _start(self.client, self.experiment_id, name, parent=self.id, tags={KIND_TAG: "subject"})
        with _ended(run):
            yield run


@contextmanager
def stage_run(stage: str, params: Params) -> Iterator[Run]:
    """The nested run of one stage, with its parameters, inputs and lineage; system metrics are sampled while it runs."""
    client = connect(params)
    experiment_id = client.get_experiment_by_name(params.tracking.experiment).experiment_id
    parent = _parent_run(client, experiment_id, params)
    run = _start(client, experiment_id, stage, parent=parent.id, tags={STAGE_TAG: stage, KIND_TAG: "stage", **_lineage()})
    client.update_run(parent.id, "RUNNING")
    with _ended(parent), _ended(run), _system_metrics(run.id):
        run.log_params({name: block for name, block in params.model_dump(mode="json").items() if name in ("source", stage)})
        run.log_datasets(stage)
        yield run


def flatten(block: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as dotted names."""
    flat: dict[str, Any] = {}
    for name, value in block.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _start(client: Any, experiment_id: str, name: str, parent: str | None, tags: Mapping[str, str]) -> Run:
    nested = {"mlflow.parentRunId": parent} if parent else {}
    run = client.create_run(experiment_id, run_name=name, tags={**tags, **nested})
    return Run(client, run.info.run_id, experiment_id)


@contextmanager
def _ended(run: Run) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        run.set_tags({"headwater.error": f"{type(error).__name__}: {error}"[:MAX_VALUE]})
        run.client.set_terminated(run.id, "FAILED")
        raise
    run.client.set_terminated(run.id, "FINISHED")


@contextmanager
def _system_metrics(run_id: str) -> Iterator[None]:
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    monitor = SystemMetricsMonitor(run_id)
    monitor.start()
    try:
        yield
    finally:
        monitor.finish()


def _parent_run(client: Any, experiment_id: str, params: Params) -> Run:
    """The run of this `dvc repro`; outside of dvc, a new one."""
    dvc = _dvc_process()
    path = RUNS_FOLDER / f"{dvc.pid}-{int(dvc.create_time() * 1000)}.json" if dvc else None
    if path and path.exists():
        known = json.loads(path.read_text())
        if known["uri"] == tracking_uri(params):
            return Run(client, known["run_id"], experiment_id)
    name = os.environ.get("DVC_EXP_NAME") or f"repro {time.strftime('%Y-%m-%d %H:%M:%S')}"
    parent = _start(client, experiment_id, name, parent=None, tags={KIND_TAG: "repro", **_lineage()})
    parent.log_params({name: block for name, block in params.model_dump(mode="json").items() if name != "tracking"})
    client.log_dict(parent.id, package_versions(), "environment.json")
    if path:
        write_bytes_atomic(path, json.dumps({"run_id": parent.id, "uri": tracking_uri(params)}).encode())
    return parent


def _dvc_process() -> psutil.Process | None:
    """The nearest process above this one that is dvc."""
    for process in psutil.Process().parents():
        try:
            words = process.cmdline()[:3]
        except psutil.Error:
            continue
        if any(Path(word).name == "dvc" for word in words):
            return process
    return None


def _lineage() -> dict[str, str]:
    commit, dirty = git_commit()
    hashes = {f"headwater.asset.{name}": digest[:16] for name, digest in detector_hashes().items()}
    return {
        "mlflow.source.git.commit": commit,
        "headwater.git_dirty": str(dirty).lower(),
        "headwater.dvc_lock": dvc_lock_digest(),
        **hashes,
    }
