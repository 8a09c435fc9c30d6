"""MLflow: one parent run for each `dvc repro`, a nested run per stage, and one per subject below it.

Only the process that runs a stage talks to MLflow, so each run has one writer. The parent is found again by the stages
that follow through the dvc process above them. mlflow takes seconds to import, so it is imported when a run begins.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import avatar_models
from avatar_models.avatar import FACTS, TENSORS
from pipelines.atomic import sha256_file
from pipelines.cost import cost_of
from pipelines.dotted import flatten
from pipelines.fanout import FanOutResult
from pipelines.keys import digest
from pipelines.lineage import (
    code_digests,
    detector_hashes,
    dvc_lock_digest,
    git_commit,
    package_versions,
    stage_inputs,
)
from pipelines.params import Params
from pipelines.repro import (
    ERROR_TAG,
    KIND_TAG,
    PARENT_TAG,
    REPRO,
    STAGE,
    SUBJECT,
    close_abandoned,
    close_parent,
    known_parent,
    remember_parent,
)
from pipelines.stage_state import describe, stage_state
from pipelines.tracking import connect, if_it_answers, tracking_uri

STAGE_TAG, AVATAR_TAG, MODEL_TAG = "headwater.stage", "headwater.avatar", "headwater.model"
BOTTLENECK_TAG = "headwater.bottleneck"
MAX_VALUE = 500  # characters of a parameter's value
TOOK = ".stage_seconds"
BATCH, SMALL_BATCH = 1000, 100  # metrics, parameters in one call


class Run:
    """One MLflow run that this process writes."""

    def __init__(self, client: Any, run_id: str, experiment_id: str) -> None:
        self.client, self.id, self.experiment_id = client, run_id, experiment_id
        self.logged: dict[str, float] = {}  # figure -> the last step that log_new wrote of it

    def log_params(self, block: Mapping[str, Any], prefix: str = "") -> None:
        """Parameters flat and named as in params.yaml: train_headgas.steps."""
        from mlflow.entities import Param

        flat = [Param(name, str(value)[:MAX_VALUE]) for name, value in flatten(block, prefix).items()]
        for start in range(0, len(flat), SMALL_BATCH):
            self.client.log_batch(self.id, params=flat[start : start + SMALL_BATCH])

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

    def log_new(self, points: Sequence[Mapping[str, float]]) -> None:
        """log_curve of what lies beyond each figure's last step: an attempt that is made again tells the first ones again."""
        new, logged = [], dict(self.logged)
        for point in points:
            rest = {name: value for name, value in point.items() if point["step"] > logged.get(name, -1.0)}
            logged |= dict.fromkeys(rest, point["step"])
            new.append({**rest, "step": point["step"]})
        self.log_curve(new)
        self.logged = logged  # only now: what could not be written is written the next time

    def recall(self) -> Run:
        """Looks up how far each figure is logged, where another process has written the run."""
        for name in self.client.get_run(self.id).data.metrics:
            self.logged[name] = max(point.step for point in self.client.get_metric_history(self.id, name))
        return self

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        if path.is_dir():
            self.client.log_artifacts(self.id, str(path), folder or path.name)
        else:
            self.client.log_artifact(self.id, str(path), folder)

    def log_bytes(self, data: bytes, name: str) -> None:
        """A small file, in place of one of the same name. MLflow's Compare shows files of the same name side by side, if they
        lie in no folder.
        """
        with tempfile.TemporaryDirectory() as made:
            path = Path(made) / name
            path.write_bytes(data)
            self.log_artifact(path)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        self.client.log_batch(self.id, tags=[RunTag(name, str(value)) for name, value in tags.items()])

    def log_assets(self, assets: Mapping[str, str]) -> None:
        """Which model files a stage's steps loaded: the beginning of each one's sha256, or that it was absent."""
        self.set_tags({f"headwater.asset.{name}": found[:16] for name, found in assets.items()})

    def log_datasets(self, stage: str) -> None:
        """The stage's dependencies as MLflow inputs, with DVC's digests."""
        from mlflow.entities import Dataset, DatasetInput

        inputs = [
            DatasetInput(Dataset(found.path, found.digest[:36] or "none", "local", json.dumps({"uri": found.path})))
            for found in stage_inputs(stage)
        ]
        if inputs:
            self.client.log_inputs(self.id, inputs)

    def log_fan_out(self, result: FanOutResult, fps: float = 0.0, prefix: str = "") -> None:
        """Counts and cost of a fan-out; fps is the rate of the video that was worked on, where it was video.

        A stage's second fan-out needs a prefix for its figures and its tag.
        """
        cost = cost_of(result)
        hours = cost.clip_hours_per_day(len(result.steps), fps)
        figures = {
            "items.cached": result.cached,
            "items.computed": len(result.computed),
            "items.quarantined": len(result.quarantined),
            "items.retries": result.retries,
            "cost.wall_seconds": cost.wall_seconds,
            **{f"cost.{step}.seconds_per_item": value for step, value in cost.seconds_per_item.items()},
            **{f"cost.{step}.seconds_per_frame": value for step, value in cost.seconds_per_frame.items()},
            **({} if hours is None else {"cost.clip_hours_per_day_per_worker": hours}),
        }
        self.log_metrics({f"{prefix}{name}": value for name, value in figures.items()})
        if cost.bottleneck:
            self.set_tags({f"{prefix}{BOTTLENECK_TAG}": cost.bottleneck})

    def log_avatar(self, folder: Path) -> None:
        """Makes the avatar of a folder a version of the model `headgas-SUBJECT`, unless its newest version is the same one.

        The run's tag headwater.model has the address for mlflow.pyfunc.load_model.
        """
        name = f"headgas-{folder.name}"
        content = digest([sha256_file(folder / file) for file in (TENSORS, FACTS)])
        version = self._newest_version(name)
        if version is None or version.tags.get(AVATAR_TAG) != content:
            model = self._log_model(folder)
            if version is None:
                self._ensure_registered_model(name)
            version = self.client.create_model_version(
                name, model.model_uri, self.id, tags={AVATAR_TAG: content}, model_id=model.model_id
            )
        self.set_tags({MODEL_TAG: f"models:/{name}/{version.version}"})

    def _newest_version(self, name: str) -> Any:
        found = self.client.search_model_versions(f"name = '{name}'", max_results=1, order_by=["version_number DESC"])
        return found[0] if found else None

    def _ensure_registered_model(self, name: str) -> None:
        from mlflow import MlflowException

        try:
            self.client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def _log_model(self, folder: Path) -> Any:
        import mlflow

        needed = [f"{package}=={package_versions()[package].partition('+')[0]}" for package in ("torch", "numba", "numpy")]
        with warnings.catch_warnings(), mlflow.start_run(run_id=self.id):
            warnings.simplefilter("ignore", UserWarning)  # a rendered picture has no column types to infer
            return mlflow.pyfunc.log_model(
                name="avatar",
                python_model=str(Path(__file__).with_name("avatar_pyfunc.py")),
                artifacts={"avatar": str(folder)},
                code_paths=[str(Path(avatar_models.__file__).parent)],
                pip_requirements=[*needed, "safetensors"],
            )

    def start_child(self, name: str, blocks: Mapping[str, Any]) -> Run:
        """A nested run with the parameters of some blocks of params.yaml, so that it can be compared by itself."""
        run = start_run(self.client, self.experiment_id, name, parent=self.id, tags={KIND_TAG: SUBJECT})
        try:
            run.log_params(blocks)
        except BaseException:  # nobody knows this run yet, so nobody else would end it
            with if_it_answers():
                run.client.set_terminated(run.id, "FAILED")
            raise
        return run

    @contextmanager
    def child(self, name: str, blocks: Mapping[str, Any]) -> Iterator[Run]:
        """start_child, FINISHED or FAILED when the block ends."""
        run = self.start_child(name, blocks)
        with _ended(run):
            yield run


@contextmanager
def stage_run(stage: str, params: Params, command: str = REPRO) -> Iterator[Run]:
    """The nested run of one stage, with its parameters, inputs and lineage; system metrics are sampled while it runs.

    Its parent is named after the `command` that began it, and the time. Raises TrackingUnreachable before the stage begins.
    """
    with stage_state(stage):
        client = connect(params)
        experiment_id = client.get_experiment_by_name(params.tracking.experiment).experiment_id
        parent = _parent_run(client, experiment_id, params, command)
        try:
            tags = {STAGE_TAG: stage, KIND_TAG: STAGE, **lineage_tags()}
            run = start_run(client, experiment_id, stage, parent=parent.id, tags=tags)
            started = time.monotonic()
            with _ended(run), _system_metrics(run.id):
                blocks = params.model_dump(mode="json")
                run.log_params({name: block for name, block in blocks.items() if name in ("source", stage)})
                run.log_datasets(stage)
                yield run
            _show_on_parent(parent, run, stage, time.monotonic() - started)
        except BaseException:
            with if_it_answers():
                close_parent(client, experiment_id, parent.id)
            raise
        close_parent(client, experiment_id, parent.id)


def _show_on_parent(parent: Run, run: Run, stage: str, seconds: float) -> None:
    """A stage's figures beside those of the other stages, since MLflow's tables and charts show parents first."""
    own = run.client.get_run(run.id).data.metrics
    figures = {f"{stage}.{name}": value for name, value in own.items() if not name.startswith("system/")}
    parent.log_metrics({**figures, f"{stage}{TOOK}": seconds})
    known = parent.client.get_run(parent.id).data.metrics
    took = {name.removesuffix(TOOK): value for name, value in known.items() if name.endswith(TOOK)}
    parent.set_tags({BOTTLENECK_TAG: max(took, key=lambda name: took[name])})


def start_run(client: Any, experiment_id: str, name: str, parent: str | None, tags: Mapping[str, str]) -> Run:
    nested = {PARENT_TAG: parent} if parent else {}
    run = client.create_run(experiment_id, run_name=name, tags={**tags, **nested})
    return Run(client, run.info.run_id, experiment_id)


@contextmanager
def _ended(run: Run) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        with if_it_answers():
            run.set_tags({ERROR_TAG: describe(error)})
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


def _parent_run(client: Any, experiment_id: str, params: Params, command: str) -> Run:
    """The run of this `dvc repro`, marked as running; outside of dvc, a new one."""
    uri = tracking_uri(params)
    known = known_parent(uri)
    if known:
        client.update_run(known, "RUNNING")
        return Run(client, known, experiment_id)
    close_abandoned(client, experiment_id, uri)
    name = os.environ.get("DVC_EXP_NAME") or f"{command} {time.strftime('%Y-%m-%d %H:%M:%S')}"
    parent = start_run(client, experiment_id, name, parent=None, tags={KIND_TAG: REPRO, **lineage_tags()})
    remember_parent(parent.id, uri)
    parent.log_params({name: block for name, block in params.model_dump(mode="json").items() if name != "tracking"})
    client.log_dict(parent.id, package_versions(), "environment.json")
    return parent


def lineage_tags() -> dict[str, str]:
    commit, dirty = git_commit()
    hashes = {f"headwater.asset.{name}": found[:16] for name, found in detector_hashes().items()}
    hashes |= {f"headwater.code.{name}": found[:16] for name, found in code_digests().items()}
    return {
        "mlflow.source.git.commit": commit,
        "headwater.git_dirty": str(dirty).lower(),
        "headwater.dvc_lock": dvc_lock_digest(),
        **hashes,
    }
