"""The MLflow store: where it is, and a connection to it that many processes may open at once.

mlflow takes seconds to import, so it is imported when a store is opened.
"""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pipelines.params import Params

SQLITE = "sqlite:///"
QUIET = (
    "mlflow.tracking._model_registry.client",
    "mlflow.store.model_registry",
    "mlflow.models",
    "alembic",
    "mlflow.store.db.utils",
    "mlflow.system_metrics",
)
FIRST_CALL_RETRIES = "2"
"""mlflow repeats a call to a server for minutes, which is right in the middle of a stage and wrong before it begins."""


MODEL_TRAINING = "workflowType=machine_learning"
"""In an address of MLflow's pages: without it they open on traces and tokens of language models, of which there are none."""


class TrackingUnreachable(RuntimeError):
    """The MLflow store does not answer or cannot be opened; the message names it and the way out."""


def project_root() -> Path:
    """The user's project. `dvc exp run --temp` and queued experiments run in a copy that is deleted afterwards."""
    return Path(os.environ.get("DVC_ROOT", "."))


def tracking_uri(params: Params) -> str:
    """MLFLOW_TRACKING_URI, or what params.yaml says; a relative SQLite file lies in the user's project."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or params.tracking.uri
    path = uri.removeprefix(SQLITE)
    if path == uri or path.startswith("/"):
        return uri
    return SQLITE + str(project_root().absolute() / path)


def connect(params: Params) -> Any:
    """An MlflowClient on the store, which is made on first use by one process at a time. Raises TrackingUnreachable."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("mlflow.pyfunc").setLevel(logging.ERROR)  # an avatar's columns are optional: no signature fits
    import mlflow
    from sqlalchemy.exc import SQLAlchemyError

    uri = tracking_uri(params)
    mlflow.set_tracking_uri(uri)
    try:
        # A fresh SQLite store migrates itself when it is opened first; two processes at once would both fail.
        with tracking_lock(), few_retries():
            client = mlflow.MlflowClient(uri)
            _ensure_experiment(client, params.tracking.experiment, uri)
    except (mlflow.MlflowException, SQLAlchemyError) as error:
        raise TrackingUnreachable(
            f"MLflow at {uri}: {str(error).splitlines()[0][:200]}. Start the server or mend the address: "
            "MLFLOW_TRACKING_URI wins over tracking.uri in params.yaml; without either, runs are kept in a local file"
        ) from None
    return client


def runs_page(params: Params, address: str) -> str:
    """The address of the project's runs on an MLflow server. Raises TrackingUnreachable."""
    experiment = connect(params).get_experiment_by_name(params.tracking.experiment)
    return f"{address}/#/experiments/{experiment.experiment_id}/runs?{MODEL_TRAINING}"


def _ensure_experiment(client: Any, name: str, uri: str) -> None:
    import mlflow

    if client.get_experiment_by_name(name) is not None:
        return
    artifacts = (project_root().absolute() / "mlruns").as_uri() if uri.startswith(SQLITE) else None
    try:
        client.create_experiment(name, artifact_location=artifacts)
    except mlflow.MlflowException:  # another machine was faster
        if client.get_experiment_by_name(name) is None:
            raise


@contextmanager
def tracking_lock() -> Iterator[None]:
    """One process of this project at a time."""
    path = project_root() / ".headwater" / "mlflow.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def store_errors() -> tuple[type[Exception], ...]:
    """What is raised where a store does not answer; requests' errors are kinds of OSError."""
    from mlflow import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return MlflowException, SQLAlchemyError, OSError


@contextmanager
def few_retries() -> Iterator[None]:
    """For calls that are not worth minutes."""
    name = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
    before = os.environ.get(name)
    os.environ.setdefault(name, FIRST_CALL_RETRIES)
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]


@contextmanager
def if_it_answers() -> Iterator[None]:
    """For what is written of an error on its way out: a store that is down must neither hide it nor hold it for minutes."""
    with suppress(*store_errors()), few_retries():
        yield
