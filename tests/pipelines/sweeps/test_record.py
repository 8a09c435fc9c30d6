"""A study in MLflow: what a driver that ended early has not written of a trial, the next one writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest

from pipelines.params import Params
from pipelines.runs import Run
from pipelines.sweeps.config import Sweep
from pipelines.sweeps.record import NUMBER_TAG, STATE_TAG, study_record
from pipelines.sweeps.study import RESULT, next_trial, open_storage, open_study
from pipelines.tracking import connect
from tests.pipelines.sweeps.made import PARAMS, made_sweep


class Gone(BaseException):
    """Stands for the end of the process."""


def runs_of_trials(params: Params) -> dict[int, Any]:
    client = connect(params)
    experiment = client.get_experiment_by_name(params.tracking.experiment)
    runs = client.search_runs([experiment.experiment_id])
    return {int(run.data.tags[NUMBER_TAG]): run for run in runs if NUMBER_TAG in run.data.tags}


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sweep:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return made_sweep(tmp_path)


def gone(*_: Any, **__: Any) -> None:
    raise Gone


def test_a_study_whose_first_driver_wrote_half_of_its_run_has_one_run(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    study = open_study(sweep, open_storage("made.journal"), {"ann": "1"})
    with monkeypatch.context() as patch, pytest.raises(Gone):
        patch.setattr(Run, "log_artifact", gone)
        with study_record(PARAMS, sweep, study):
            pass
    with study_record(PARAMS, sweep, study):
        pass
    client = connect(PARAMS)
    (run,) = client.search_runs([client.get_experiment_by_name(PARAMS.tracking.experiment).experiment_id])
    assert (run.info.status, run.data.params["sweep.trials"]) == ("FINISHED", "6")
    assert {file.path for file in client.list_artifacts(run.info.run_id)} == {"made.yaml", "environment.json"}


@pytest.mark.parametrize("last", ["log_batch", "set_terminated"])
def test_a_trial_whose_end_was_written_in_part_is_written_by_the_next_driver(
    last: str, sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = open_study(sweep, open_storage("made.journal"), {"ann": "1"})

    with pytest.raises(Gone), study_record(PARAMS, sweep, study) as record:
        trial = next_trial(study, sweep)
        record.begin(trial.number, trial.params)
        trial.set_user_attr(RESULT, {"figures": {"psnr": 31.0}, "curve": [{"step": 25, "loss": 0.1}], "seconds": 2.0})
        study.tell(trial, 31.0)
        (ended,) = study.get_trials(states=[optuna.trial.TrialState.COMPLETE])
        with monkeypatch.context() as patch:
            patch.setattr(record.parent.client, last, gone)
            record.end(ended)
    assert runs_of_trials(PARAMS)[0].info.status == "KILLED"

    with study_record(PARAMS, sweep, study):
        pass
    (run,) = runs_of_trials(PARAMS).values()
    assert run.info.status == "FINISHED" and run.data.tags[STATE_TAG] == "complete"
    assert run.data.metrics == {"psnr": 31.0, "loss": 0.1, "cost.seconds": 2.0}
    assert run.data.params["train_headgas.learning_rate"] == str(trial.params["train_headgas.learning_rate"])
