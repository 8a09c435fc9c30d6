"""MLflow runs: one parent, nested stages and subjects, states that tell the truth."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from rich.console import Console

from avatar_models.avatar import avatar_files
from avatar_models.headgas import HeadGas, HeadGasSizes
from headwater.compare import CompareError, compare_runs, show_differences
from pipelines import repro
from pipelines.cost import cost_of
from pipelines.dotted import flatten
from pipelines.fanout import FanOutResult, Step, StepWork
from pipelines.params import Params, Source, TrainHeadgas, Workers, load_params
from pipelines.repro import KIND_TAG
from pipelines.runs import stage_run
from pipelines.tracking import TrackingUnreachable, connect, tracking_uri

PARAMS = "source: {kind: folder, path: v, watch: v}\ntrain_headgas: {steps: 7}\n"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    (folder / "params.yaml").write_text(PARAMS)
    return folder


@pytest.fixture
def params(project: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    monkeypatch.chdir(project)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return load_params()


def step(name: str) -> Step:
    return Step(name, 1, lambda params: lambda item, upstream, out: {}, {}, Workers())


def runs_of(params: Params, kind: str) -> list:  # type: ignore[type-arg]
    client = connect(params)
    experiment = client.get_experiment_by_name(params.tracking.experiment)
    return list(client.search_runs([experiment.experiment_id], f"tags.`{KIND_TAG}` = '{kind}'"))


def tiny_avatar(folder: Path) -> Path:
    model = HeadGas(HeadGasSizes(30, 2, 4, 8, 0, 2))
    model.initialise(torch.rand(30, 3) * 0.1, torch.rand(30, 3), torch.rand(4, 2))
    K, viewmat = [[60.0, 0, 16], [0, 60, 16], [0, 0, 1]], np.eye(4)
    viewmat[2, 3] = 0.6
    camera = {"K": K, "viewmat": viewmat.tolist(), "width": 32, "height": 32}
    facts = {
        "sizes": model.sizes_as_dict(),
        "camera": camera,
        "background": "white",
        "neutral": [0.0, 0.0],
        "condition_names": ["a", "b"],
    }
    folder.mkdir(parents=True)
    for name, data in avatar_files("headgas", model.tensors(), facts).items():
        (folder / name).write_bytes(data)
    return folder


def test_a_stage_is_nested_in_a_parent_and_a_subject_in_the_stage(params: Params, project: Path) -> None:
    result = FanOutResult("train_headgas", [step("observe"), step("fit")], computed={"a", "b", "c", "d"})
    result.work = {"observe": StepWork(6.0, 4, 100), "fit": StepWork(2.0, 4, 100)}
    with stage_run("train_headgas", params) as run:
        run.log_fan_out(result, fps=25.0)
        run.log_fan_out(FanOutResult("train_headgas", result.steps, work={"observe": StepWork(9.0, 1)}), prefix="film.")
        with run.child("ann", {}) as child:
            child.log_curve([{"step": step, "loss": 1.0 / step} for step in (1, 2, 3)])
            child.log_avatar(tiny_avatar(project / "models" / "ann"))
    client = connect(params)
    (parent,), (stage,), (subject,) = (runs_of(params, kind) for kind in ("repro", "stage", "subject"))
    assert stage.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert subject.data.tags["mlflow.parentRunId"] == stage.info.run_id
    assert {run.info.status for run in (parent, stage, subject)} == {"FINISHED"}
    assert stage.data.params["train_headgas.steps"] == "7" and "compute.cache" in parent.data.params
    assert stage.data.metrics["cost.observe.seconds_per_frame"] == pytest.approx(0.06)
    assert stage.data.metrics["cost.observe.seconds_per_item"] == pytest.approx(1.5)
    assert parent.data.metrics["train_headgas.cost.observe.seconds_per_frame"] == pytest.approx(0.06)
    assert parent.data.tags["headwater.bottleneck"] == "train_headgas"
    assert stage.data.metrics["cost.clip_hours_per_day_per_worker"] == pytest.approx(24 / (0.08 * 25))
    assert stage.data.tags["headwater.bottleneck"] == "observe"
    assert stage.data.metrics["film.cost.observe.seconds_per_item"] == 9.0
    assert stage.data.tags["film.headwater.bottleneck"] == "observe"
    assert [m.value for m in client.get_metric_history(subject.info.run_id, "loss")] == pytest.approx([1, 0.5, 1 / 3])

    import mlflow
    import pandas as pd

    model = mlflow.pyfunc.load_model("models:/headgas-ann/1")
    pictures = model.predict(pd.DataFrame({"a": [0.0, 1.0]}))
    assert pictures.shape == (2, 32, 32, 3) and pictures.dtype == np.uint8
    side = np.eye(4)
    side[:3, 3] = 0.1, 0, 0.6
    moved = model.predict(pd.DataFrame({"a": [0.0, 1.0], "viewmat": [np.eye(4).tolist(), side.ravel().tolist()]}))
    assert moved.shape == pictures.shape and not np.array_equal(moved, pictures)
    with pytest.raises(Exception, match="unknown expressions"):
        model.predict(pd.DataFrame({"smile": [1.0]}))


def test_a_run_is_named_after_the_command_that_began_it(params: Params) -> None:
    for command in (["ablate"], []):
        with stage_run("ablate", params, *command) as run:
            pass
        above = run.client.get_run(run.id).data.tags[repro.PARENT_TAG]
        assert run.client.get_run(above).info.run_name.startswith(f"{command[0] if command else 'repro'} 20")


def test_a_stage_that_fails_says_so_on_both_runs(params: Params) -> None:
    with pytest.raises(ValueError, match="boom"), stage_run("evaluate", params):
        raise ValueError("boom")
    failed = [run for kind in ("repro", "stage") for run in runs_of(params, kind) if run.info.status == "FAILED"]
    assert [run.data.tags["headwater.error"] for run in failed] == ["ValueError: boom"] * 2


@pytest.fixture
def below_dvc(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the process above this one were dvc."""
    above = psutil.Process(os.getppid())
    monkeypatch.setattr(repro, "owner", lambda: above)


def test_the_stages_of_one_repro_share_a_parent_that_stays_failed(params: Params, below_dvc: None) -> None:
    known = {run.info.run_id for run in runs_of(params, "repro")}
    with pytest.raises(ValueError), stage_run("catalog", params):
        raise ValueError("lost")
    with stage_run("report", params):
        (parent,) = [run for run in runs_of(params, "repro") if run.info.run_id not in known]
        assert parent.info.status == "RUNNING"
    parent = connect(params).get_run(parent.info.run_id)
    assert parent.info.status == "FAILED" and parent.data.tags["headwater.error"] == "ValueError: lost"


def test_what_a_killed_driver_left_is_closed_by_the_next_run(params: Params) -> None:
    client = connect(params)
    experiment = client.get_experiment_by_name(params.tracking.experiment).experiment_id
    parent = client.create_run(experiment, tags={KIND_TAG: "repro"}).info.run_id
    stage, ended = (
        client.create_run(experiment, run_name=name, tags={repro.PARENT_TAG: parent}).info.run_id
        for name in ("evaluate", "train_headgas")
    )
    subjects = [client.create_run(experiment, tags={repro.PARENT_TAG: above}).info.run_id for above in (stage, ended)]
    client.set_terminated(ended)
    left = Path(".headwater/runs/1-2.json")
    left.parent.mkdir(parents=True, exist_ok=True)
    facts = {"run_id": parent, "uri": tracking_uri(params), "host": platform.node(), "pid": 2**22 + 1, "created": 1.0}
    left.write_text(json.dumps(facts))
    with stage_run("report", params):
        pass
    assert [client.get_run(run).info.status for run in (parent, stage, ended)] == ["FAILED", "KILLED", "FINISHED"]
    assert {client.get_run(run).info.status for run in subjects} == {"KILLED"}
    assert client.get_run(parent).data.tags["headwater.error"] == "evaluate was killed"
    assert not left.exists()


def test_a_run_whose_database_was_deleted_since_is_forgotten(params: Params) -> None:
    left = Path(".headwater/runs/1-3.json")
    left.parent.mkdir(parents=True, exist_ok=True)
    facts = {"run_id": "f" * 32, "uri": tracking_uri(params), "host": platform.node(), "pid": 2**22 + 1, "created": 1.0}
    left.write_text(json.dumps(facts))
    with stage_run("report", params):
        pass
    assert not left.exists()


def test_the_same_avatar_is_registered_once(params: Params, project: Path) -> None:
    folder = tiny_avatar(project / "models" / "bob")
    with stage_run("train_headgas", params) as run:
        for _ in range(2):
            with run.child("bob", {}) as child:
                child.log_avatar(folder)
        (folder / "avatar.json").write_text((folder / "avatar.json").read_text() + " ")
        with run.child("bob", {}) as child:
            child.log_avatar(folder)
    models = [run.data.tags["headwater.model"] for run in runs_of(params, "subject") if run.info.run_name == "bob"]
    assert models == ["models:/headgas-bob/2", "models:/headgas-bob/1", "models:/headgas-bob/1"]


def test_more_parameters_than_one_call_takes(params: Params) -> None:
    with stage_run("report", params) as run:
        run.log_params({f"p{n}": n for n in range(250)})
    found = connect(params).get_run(run.id).data.params
    assert found["p249"] == "249" and len(found) > 250


def test_a_store_that_does_not_answer_stops_the_stage_before_it_begins(params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(TrackingUnreachable, match=r"http://127\.0\.0\.1:9.*Start the server"), stage_run("catalog", params):
        pytest.fail("the stage began")


def test_an_experiment_in_a_copy_of_the_project_is_recorded_in_the_project(
    params: Params, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_ROOT", str(project))
    monkeypatch.chdir(tmp_path)
    assert tracking_uri(params) == f"sqlite:///{project}/mlflow.db"


def test_compare_says_which_parameter_differs(params: Params) -> None:
    changed = params.model_copy(update={"train_headgas": TrainHeadgas(steps=8)})
    ids = []
    for given, loss in ((params, 0.5), (changed, 0.4)):
        known = {run.info.run_id for run in runs_of(params, "repro")}
        with stage_run("train_headgas", given) as run:
            run.log_metrics({"loss": loss})
            with run.child("ann", {}) as child:
                child.log_metrics({"train_psnr": 20 * loss})
        ids.append(next(run.info.run_id for run in runs_of(params, "repro") if run.info.run_id not in known))
    console = Console(width=160, record=True)
    show_differences(console, compare_runs(*ids))
    text = " ".join(console.export_text().split())
    assert "params │ train_headgas.steps │ 7 │ 8" in text
    assert "train_headgas: loss │ 0.5 │ 0.4" in text and "train_headgas ann: train_psnr │ 10 │ 8" in text
    assert compare_runs(run.id, ids[0][:12]).first.name.startswith(ids[1][:8])  # the repro above a stage's run
    with pytest.raises(CompareError, match=r"no run called 'nothing'. The newest are: "):
        compare_runs("nothing", ids[0])


def test_no_cost_a_frame_where_items_are_not_frames() -> None:
    cost = cost_of(FanOutResult("evaluate", [step("evaluate")], work={"evaluate": StepWork(3.0, 2)}))
    assert cost.seconds_per_frame == {} and cost.seconds_per_item == {"evaluate": 1.5}
    assert cost_of(FanOutResult("evaluate", [step("evaluate")])).seconds_per_item == {}


def test_a_step_that_came_from_the_cache_is_in_no_mean() -> None:
    half_warm = FanOutResult("preprocess", [step("observe"), step("fit")])
    half_warm.work = {"observe": StepWork(6.0, 1, 50), "fit": StepWork(8.0, 4, 200)}
    assert cost_of(half_warm).seconds_per_frame == {"observe": pytest.approx(0.12), "fit": pytest.approx(0.04)}
    only_fit = FanOutResult("preprocess", half_warm.steps, work={"fit": StepWork(8.0, 4, 200)})
    assert cost_of(only_fit).clip_hours_per_day(2, 25.0) is None


def test_nested_names_are_flat() -> None:
    source = Source(kind="folder", path="a", watch="b")
    assert flatten({"source": source.as_key(), "n": 1}) == {
        "source.kind": "folder",
        "source.path": "a",
        "source.watch": "b",
        "n": 1,
    }
