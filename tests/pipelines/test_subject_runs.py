"""A subject's run while it trains: points as they come, each once, and an end that tells the truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import pytest

from pipelines.atomic import DiskFull
from pipelines.cache import Failure
from pipelines.news import Told
from pipelines.params import Params, Source
from pipelines.repro import KIND_TAG
from pipelines.runs import Run, stage_run
from pipelines.subject_runs import subject_runs
from pipelines.tracking import connect

PARAMS = Params(source=Source(kind="folder", path="v", watch="v"))
BLOCKS = {"train_headgas": {"steps": 75, "density": {"every": 100}}}
CURVE = [{"step": float(step), "loss": 1.0 / step} for step in (25, 50, 75)]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(autouse=True)
def project(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(store)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def subject(name: str) -> Any:
    """The newest run of that name."""
    client = connect(PARAMS)
    experiment = client.get_experiment_by_name(PARAMS.tracking.experiment)
    found = client.search_runs([experiment.experiment_id], f"tags.`{KIND_TAG}` = 'subject'")
    return next(run for run in found if run.info.run_name == name)


def steps(name: str, metric: str = "loss") -> list[int]:
    return [point.step for point in connect(PARAMS).get_metric_history(subject(name).info.run_id, metric)]


def failure(item: str) -> Failure:
    return Failure("train_headgas", item, 2, "training_diverged", "TrainingDiverged", "step 40: loss is not finite", "")


def silent(*_: Any, **__: Any) -> None:
    raise mlflow.MlflowException("no answer")


def test_a_run_fills_while_its_subject_trains() -> None:
    with stage_run("train_headgas", PARAMS) as run, subject_runs(run, BLOCKS) as subjects:
        subjects.heard(Told("ada", "step 50 of 75", CURVE[:2], {"progress.png": b"early"}))
        assert subject("ada").info.status == "RUNNING" and steps("ada") == [25, 50]
        subjects.heard(Told("ada", "step 25 of 75", CURVE[:1], {}))  # an attempt that began again
        subjects.heard(Told("ada", "step 75 of 75", CURVE, {"progress.png": b"late"}))
        assert steps("ada") == [25, 50, 75]
        for name in ("ada", "ben"):  # ben comes from the cache: nothing was heard of him
            with subjects.finished(name, CURVE) as child:
                child.log_metrics({"train_psnr": 30.0}, step=75)
    assert steps("ada") == steps("ben") == [25, 50, 75]
    assert {subject(name).info.status for name in ("ada", "ben")} == {"FINISHED"}
    assert subject("ben").data.params == {"train_headgas.steps": "75", "train_headgas.density.every": "100"}
    picture = connect(PARAMS).download_artifacts(subject("ada").info.run_id, "progress.png")
    assert Path(picture).read_bytes() == b"late"


def test_a_subject_in_quarantine_says_why() -> None:
    with stage_run("train_headgas", PARAMS) as run, subject_runs(run, BLOCKS) as subjects:
        subjects.heard(Told("ada", "step 25 of 75", CURVE[:1]))
        for name in ("ada", "ben", "ben"):
            subjects.failed(failure(name))
        assert subject("ada").info.status == "FAILED"  # at once
    for name in ("ada", "ben"):
        run = subject(name)
        assert run.info.status == "FAILED" and run.data.tags["headwater.reason"] == "training_diverged"
        assert run.data.tags["headwater.error"] == "step 40: loss is not finite"


def test_a_stage_that_fails_leaves_no_run_open() -> None:
    with pytest.raises(KeyboardInterrupt), stage_run("train_headgas", PARAMS) as run, subject_runs(run, BLOCKS) as subjects:
        subjects.heard(Told("ada", "step 25 of 75", CURVE[:1]))
        subjects.failed(failure("ben"))
        raise KeyboardInterrupt
    assert subject("ada").info.status == subject("ben").info.status == "FAILED"
    assert subject("ada").data.tags["headwater.error"] == "stopped by Ctrl-C"
    assert subject("ben").data.tags["headwater.reason"] == "training_diverged"


def test_a_store_that_goes_silent_stops_no_training(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with stage_run("train_headgas", PARAMS) as run, subject_runs(run, BLOCKS) as subjects:
        subjects.heard(Told("ada", "step 25 of 75", CURVE[:1]))
        with monkeypatch.context() as patch:
            patch.setattr(Run, "log_curve", silent)
            subjects.heard(Told("ada", "step 50 of 75", CURVE[1:2]))
            subjects.failed(failure("ben"))
        said = capsys.readouterr().out
        assert said.count("MLflow does not answer") == 1 and "tried again in 60 s" in said
        with subjects.finished("ada", CURVE):
            pass
    assert steps("ada") == [25, 50, 75] and subject("ben").info.status == "FAILED"


def test_a_store_that_answers_again_gets_what_it_missed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 1000.0
    monkeypatch.setattr("pipelines.subject_runs.time.monotonic", lambda: now)
    with stage_run("train_headgas", PARAMS) as run, subject_runs(run, BLOCKS) as subjects:
        with monkeypatch.context() as patch:
            patch.setattr(Run, "log_curve", silent)
            subjects.heard(Told("ada", "step 25 of 75", CURVE[:1], {"progress.png": b"early"}))
            now += 61.0
            subjects.heard(Told("ada", "step 50 of 75", CURVE[1:2]))
        said = capsys.readouterr().out
        assert "tried again in 60 s" in said and "tried again in 120 s" in said
        now += 61.0
        subjects.heard(Told("ada", "", ()))  # too early
        assert steps("ada") == []
        now += 60.0
        subjects.heard(Told("ada", "step 75 of 75", CURVE[2:]))
        assert steps("ada") == [25, 50, 75]
        picture = connect(PARAMS).download_artifacts(subject("ada").info.run_id, "progress.png")
        assert Path(picture).read_bytes() == b"early"
        with subjects.finished("ada", CURVE):
            pass
    assert steps("ada") == [25, 50, 75]


def test_an_error_is_not_hidden_by_a_store_that_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        pytest.raises(DiskFull, match="no room"),
        stage_run("train_headgas", PARAMS) as run,
        subject_runs(run, BLOCKS) as subjects,
    ):
        subjects.heard(Told("ada", "step 25 of 75", CURVE[:1]))
        with run.child("eva", BLOCKS):
            for call in ("log_batch", "set_tag", "set_terminated", "search_runs"):
                monkeypatch.setattr(mlflow.MlflowClient, call, silent)
            raise DiskFull("no room")
