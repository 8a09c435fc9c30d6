"""MLflow runs: one parent, nested stages and subjects, states that tell the truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from avatar_models.avatar import avatar_files
from avatar_models.headgas import HeadGas, HeadGasSizes
from headwater.compare import CompareError, compare_runs, show_differences
from pipelines.fanout import FanOutResult
from pipelines.params import Params, Source, TrainHeadgas, load_params
from pipelines.runs import KIND_TAG, connect, flatten, stage_run

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
    result = FanOutResult("train_headgas", [], computed=3, cached=1, seconds={"observe": 6.0, "fit": 2.0}, frames=100)
    with stage_run("train_headgas", params) as run:
        run.log_fan_out(result, fps=25.0)
        with run.child("ann") as child:
            child.log_curve([{"step": step, "loss": 1.0 / step} for step in (1, 2, 3)])
            child.log_avatar(tiny_avatar(project / "models" / "ann"))
    client = connect(params)
    (parent,), (stage,), (subject,) = (runs_of(params, kind) for kind in ("repro", "stage", "subject"))
    assert stage.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert subject.data.tags["mlflow.parentRunId"] == stage.info.run_id
    assert {run.info.status for run in (parent, stage, subject)} == {"FINISHED"}
    assert stage.data.params["train_headgas.steps"] == "7" and "compute.cache" in parent.data.params
    assert stage.data.metrics["cost.observe.seconds_per_frame"] == pytest.approx(0.06)
    assert stage.data.metrics["cost.clip_hours_per_day_per_worker"] == pytest.approx(24 / (0.08 * 25))
    assert stage.data.tags["headwater.bottleneck"] == "observe"
    assert [m.value for m in client.get_metric_history(subject.info.run_id, "loss")] == pytest.approx([1, 0.5, 1 / 3])

    import mlflow
    import pandas as pd

    model = mlflow.pyfunc.load_model("models:/headgas-ann/1")
    pictures = model.predict(pd.DataFrame({"a": [0.0, 1.0]}))
    assert pictures.shape == (2, 32, 32, 3) and pictures.dtype == np.uint8
    with pytest.raises(Exception, match="unknown expressions"):
        model.predict(pd.DataFrame({"smile": [1.0]}))


def test_a_stage_that_fails_says_so_on_both_runs(params: Params) -> None:
    with pytest.raises(ValueError, match="boom"), stage_run("evaluate", params):
        raise ValueError("boom")
    failed = [run for kind in ("repro", "stage") for run in runs_of(params, kind) if run.info.status == "FAILED"]
    assert [run.data.tags["headwater.error"] for run in failed] == ["ValueError: boom"] * 2


def test_compare_says_which_parameter_differs(params: Params) -> None:
    changed = params.model_copy(update={"train_headgas": TrainHeadgas(steps=8)})
    ids = []
    for given, loss in ((params, 0.5), (changed, 0.4)):
        known = {run.info.run_id for run in runs_of(params, "repro")}
        with stage_run("train_headgas", given) as run:
            run.log_metrics({"loss": loss})
        ids.append(next(run.info.run_id for run in runs_of(params, "repro") if run.info.run_id not in known))
    console = Console(width=160, record=True)
    show_differences(console, compare_runs(*ids))
    text = " ".join(console.export_text().split())
    assert "params │ train_headgas.steps │ 7 │ 8" in text
    assert "train_headgas: loss │ 0.5 │ 0.4" in text
    with pytest.raises(CompareError, match=r"no run called 'nothing'. The newest are: "):
        compare_runs("nothing", ids[0])


def test_nested_names_are_flat() -> None:
    source = Source(kind="folder", path="a", watch="b")
    assert flatten({"source": source.as_key(), "n": 1}) == {
        "source.kind": "folder",
        "source.path": "a",
        "source.watch": "b",
        "n": 1,
    }
