"""`headwater sweep` says what is wrong, and puts the best values where `dvc repro` reads them."""

from __future__ import annotations

import json
from pathlib import Path

import optuna
import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from headwater.cli import app
from headwater.sweep import show
from pipelines.params import load_params
from pipelines.sweeps.config import load_sweep
from pipelines.sweeps.results import result_files, write_best, write_results
from pipelines.sweeps.study import open_storage, open_study
from pipelines.sweeps.sweep import SweepResult

PARAMS = "# mine\nsource: {kind: folder, path: v, watch: v}\ntrain_headgas:\n  steps: 70  # short\n"
SWEEP = "space:\n  train_headgas.steps: {low: 10, high: 100}\n  train_headgas.lambda_ssim: [0.1, 0.2]\n"


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(PARAMS)
    path = Path("sweeps/one.yaml")
    path.parent.mkdir()
    path.write_text(SWEEP)
    return path


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["sweep", *words], env={"COLUMNS": "400"})


def test_the_best_values_go_into_params_and_comments_stay(sweep: Path) -> None:
    write_best(
        load_sweep(sweep, load_params()), 4, {"train_headgas.steps": 90, "train_headgas.lambda_ssim": 0.1}, {"psnr": 25.0}
    )
    found = run(str(sweep), "--apply")
    assert found.exit_code == 0 and "train_headgas.steps: 70 -> 90" in found.output, found.output
    text = Path("params.yaml").read_text()
    assert text.startswith("# mine\n") and "steps: 90  # short" in text and Path("params.yaml.bak").read_text() == PARAMS
    assert load_params().train_headgas.lambda_ssim == 0.1
    again = run(str(sweep), "--apply")
    assert again.exit_code == 0 and "params.yaml has these values already" in again.output and "Next" not in again.output
    assert not Path("params.yaml.bak1").exists()


def test_another_trial_of_the_front_can_be_taken(sweep: Path) -> None:
    values = {"train_headgas.steps": 20, "train_headgas.lambda_ssim": 0.2}
    trials = [{"number": 3, "state": "complete", "values": values, "figures": {"psnr": 21.0}}]
    result_files(sweep).trials.write_text(json.dumps({"trials": trials}))
    assert run(str(sweep), "--apply", "--trial", "3").exit_code == 0
    assert load_params().train_headgas.steps == 20
    assert "no complete trial 4; it has 3" in run(str(sweep), "--apply", "--trial", "4").output


def test_what_is_missing_or_wrong_is_said(sweep: Path) -> None:
    assert "one.best.yaml: not found; run `headwater sweep sweeps/one.yaml` first" in run(str(sweep), "--apply").output
    assert "there are no tracks to train on yet; run `dvc repro preprocess` first" in run(str(sweep)).output
    assert "sweeps in that folder: sweeps/one.yaml" in run("sweeps/two.yaml").output
    result_files(sweep).best.write_text("train_headgas: {steps: -1}\n")
    found = run(str(sweep), "--apply")
    assert found.exit_code == 1 and "'train_headgas.steps' = -1" in found.output
    assert Path("params.yaml").read_text() == PARAMS


def told(path: Path, tried: list[tuple[int, float, float]], capsys: pytest.CaptureFixture[str]) -> str:
    """What is printed of trials of (steps, lambda_ssim, PSNR)."""
    own = load_sweep(path, load_params())
    study = open_study(own, open_storage("a.journal"), {"ann": "1"})
    for steps, weight, psnr in tried:
        values = {"train_headgas.steps": steps, "train_headgas.lambda_ssim": weight}
        study.add_trial(optuna.create_trial(params=values, distributions=dict(own.space), value=psnr))
    show(Console(width=200), own, SweepResult(study, write_results(own, study), 0, [3]))
    return capsys.readouterr().out


def test_the_five_best_trials_and_what_to_do_with_them_are_told(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = told(sweep, [(20 + number, 0.1, 20.0 + number) for number in range(7)], capsys)
    assert [psnr for psnr in range(20, 27) if f" {psnr} " in output] == [22, 23, 24, 25, 26]
    assert "--apply && dvc repro" in output and "nothing better" not in output
    assert "queued again, since the sweep was stopped while they ran: trials 3" in output


def test_nothing_is_to_be_applied_where_params_yaml_is_the_best(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = told(sweep, [(70, 0.2, 25.0), (20, 0.1, 21.0)], capsys)
    assert "nothing better in psnr than params.yaml was found" in output and "--apply" not in output


def test_the_dashboard_needs_a_study(sweep: Path) -> None:
    pytest.importorskip("optuna_dashboard", reason="optuna-dashboard is not installed: pip install 'headwater[dashboard]'")
    assert "there is no study yet" in run(str(sweep), "--dashboard").output
