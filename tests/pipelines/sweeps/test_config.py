"""A sweep's file is checked against params.yaml's types and limits before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from pipelines.params import load_params
from pipelines.sweeps.config import SweepError, load_sweep, sweep_files
from tests.pipelines.sweeps.made import PARAMS, SPACE, made_sweep, sweep_file

ROOT = Path(__file__).resolve().parents[3]


def test_the_projects_own_sweeps_load() -> None:
    found = sweep_files(ROOT / "sweeps")
    assert found and all(load_sweep(path, load_params(ROOT / "params.yaml")).space for path in found)


def test_a_parameters_type_decides_how_it_is_searched(tmp_path: Path) -> None:
    sweep = made_sweep(tmp_path, fixed={"train_headgas.steps": 50})
    assert sweep.name == "made" and sweep.base.train_headgas.steps == 50
    assert sweep.space == {
        "train_headgas.learning_rate": FloatDistribution(0.0005, 0.05, log=True),
        "train_headgas.num_gaussians": IntDistribution(500, 4000, step=500),
        "train_headgas.sh_degree": CategoricalDistribution([0, 1, 2]),
    }
    trial = sweep.params_of({"train_headgas.learning_rate": 0.01, "preprocess.crop.scale": 3.0})
    assert trial.train_headgas.learning_rate == 0.01 and trial.preprocess.crop.scale == 3.0


@pytest.mark.parametrize(
    ("key", "entry", "told"),
    [
        ("train_headgas.learning_rat", {"low": 1e-3, "high": 1e-2}, "Did you mean 'train_headgas.learning_rate'"),
        ("learning_rate", {"low": 1e-3, "high": 1e-2}, "Did you mean 'train_headgas.learning_rate'"),
        ("train_headgas.learning_rate", {"low": 0.0, "high": 1e-2}, "'train_headgas.learning_rate' = 0.0.*greater than 0"),
        ("train_headgas.learning_rate", {"low": 0.1, "high": 0.01}, "low"),
        ("train_headgas.learning_rate", {"low": 0.1, "hihg": 0.2}, "unknown key 'hihg'. Did you mean 'high'"),
        ("train_headgas.learning_rate", 0.1, "a range .* or a list of values was expected"),
        ("train_headgas.num_gaussians", {"low": 100.5, "high": 200}, "'train_headgas.num_gaussians' = 100.5.*valid integer"),
        ("train_headgas.num_gaussians", {"low": 100, "high": 200, "step": 0.5}, "whole number"),
        ("train_headgas.sh_degree", [1, 9], "'train_headgas.sh_degree' = 9"),
        ("train_headgas.sh_degree", [1, 1], "stands twice"),
        ("train_headgas.sh_degree", [], "choices"),
        ("preprocess.head", {"low": 1, "high": 2}, "is no number; give a list"),
        ("preprocess.head", ["procedural", "smpl"], "'preprocess.head' = 'smpl'"),
        ("preprocess.gates.min_frames", [1, 2], "decides which frames are judged"),
        ("train_headgas.background", ["white", "black"], "cannot be searched"),
        ("evaluate.max_frames", [1, 2], "yardstick.*Searched are: train_headgas, preprocess"),
        ("compute.cache", ["a", "b"], "changes no result"),
        ("train_headgas.resolution", [64, 512], "larger than the stored crops"),
    ],
)
def test_a_space_that_cannot_be_is_refused(tmp_path: Path, key: str, entry: Any, told: str) -> None:
    with pytest.raises(SweepError, match=told):
        made_sweep(tmp_path, space={key: entry})


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"trails": 3}, "unknown key 'trails'. Did you mean 'trials'"),
        ({"space": None}, "'space' is missing"),
        ({"trials": 0}, "'trials' = 0"),
        ({"objectives": ["psnr", "beauty"]}, "objectives.1"),
        ({"objectives": ["psnr", "psnr"]}, "stands twice"),
        ({"objectives": ["psnr", "avatar_bytes"], "pruning": {"kind": "median"}}, "pruning needs one objective"),
        ({"objectives": ["render_fps"], "pruning": {"kind": "asha"}}, "known during training"),
        ({"fixed": {"train_headgas.sh_degree": 1}}, "in `space` and in `fixed`"),
        ({"fixed": {"train_headgas.steps": 0}}, "'train_headgas.steps' = 0"),
        ({"pruning": {"kind": "median", "reduction_facto": 2}}, "Did you mean 'pruning.reduction_factor'"),
    ],
)
def test_a_file_that_cannot_be_is_refused(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(SweepError, match=rf"made\.yaml: .*{told}"):
        made_sweep(tmp_path, **changes)


def test_a_missing_file_names_those_that_are_there(tmp_path: Path) -> None:
    path = sweep_file(tmp_path, space=SPACE)
    path.with_suffix(".best.yaml").write_text("{}")
    with pytest.raises(SweepError, match=r"other\.yaml: not found; sweeps in that folder: \S*made\.yaml$"):
        load_sweep(path.with_name("other.yaml"), PARAMS)
