"""A study in MLflow: what a driver that ended early has not written of a trial, the next one writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest

from pipelines.params import Params
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


@pytest.mark.parametrize("last", ["log_batch", "set_terminated"])
def test_a_trial_whose_end_was_written_in_part_is_written_by_the_next_driver(
    last: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    sweep = made_sweep(tmp_path)
    study = open_study(sweep, open_storage("made.journal"), {"ann": "1"})

    def gone(*_: Any, **__: Any) -> None:
        raise Gone

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
