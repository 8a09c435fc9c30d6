"""A study in MLflow: one parent run, and below it a run for each trial with its parameters, curves and figures.

A trial's run is written from what the study holds of it, so a driver that finds finished trials without a finished run
(its forerunner was killed in between) writes them then. A study that goes on goes on in the same parent run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from pipelines.cache import Cache, DamagedEntry, Entry
from pipelines.lineage import package_versions
from pipelines.params import Params
from pipelines.repro import (
    ERROR_TAG,
    KIND_TAG,
    SWEEP,
    TRIAL,
    children,
    close_abandoned,
    forget_parent,
    remember_parent,
)
from pipelines.runs import Run, lineage_tags, start_run
from pipelines.stage_state import describe
from pipelines.sweeps.config import SEARCHED, Sweep, SweepError
from pipelines.sweeps.study import INTERRUPTED, MLFLOW, RESULT, RETRY_OF, is_settled
from pipelines.tracking import connect, few_retries, if_it_answers, store_errors, tracking_uri

NUMBER_TAG, STATE_TAG, REASON_TAG, STUDY_TAG, RETRY_TAG = (
    "headwater.trial", "headwater.trial.state", "headwater.trial.reason", "headwater.study", "headwater.trial.retry_of",
)  # fmt: skip
STATES = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}


class StudyRecord:
    """The parent run of a study, and the runs of its trials."""

    def __init__(self, parent: Run, sweep: Sweep, study: optuna.Study, cache: Cache) -> None:
        self.parent, self.sweep, self.study, self.cache = parent, sweep, study, cache
        self.runs: dict[int, Run] = {}
        self.best: float | None = None
        self.complete = 0

    def begin(self, number: int, values: Mapping[str, Any]) -> None:
        """Makes the run of a trial."""
        tags = {KIND_TAG: TRIAL, STUDY_TAG: self.sweep.name, NUMBER_TAG: str(number)}
        run = start_run(self.parent.client, self.parent.experiment_id, f"trial {number}", self.parent.id, tags)
        self.runs[number] = run
        blocks = self.sweep.params_of(values).model_dump(mode="json") if self._go_together(values) else {}
        shown = {name: blocks[name] for name in SEARCHED if name in blocks and self._is_of(name)}
        run.log_params(shown or dict(values))

    def watch(self, number: int, points: Sequence[Mapping[str, float]]) -> None:
        """Writes how a trial does on its way; what cannot be written now is when the trial ends."""
        with suppress(*store_errors()), few_retries():  # other trials wait meanwhile
            self.runs[number].log_new(points)

    def end(self, trial: FrozenTrial) -> None:
        """Writes what became of a trial, and ends its run: FAILED for a trial that failed, FINISHED for a pruned one too."""
        if trial.number not in self.runs:
            self.begin(trial.number, trial.params)
        run = self.runs[trial.number]
        result = trial.user_attrs.get(RESULT, {})
        curve, watched = result.get("curve", []), result.get("watched", [])
        last = max([int(point["step"]) for point in (*curve, *watched)], default=0)
        cost = {"cost.seconds": result["seconds"]} if "seconds" in result else {}
        run.log_new([*curve, *watched, {"step": last, **result.get("figures", {}), **cost}])
        self._show_pictures(run, result.get("entry", ""))
        tags = {STATE_TAG: "interrupted" if INTERRUPTED in trial.user_attrs else STATES[trial.state]}
        if RETRY_OF in trial.user_attrs:
            tags[RETRY_TAG] = str(trial.user_attrs[RETRY_OF])
        if "message" in result:
            tags |= {REASON_TAG: result["reason"], ERROR_TAG: result["message"][:500]}
        run.set_tags(tags)
        run.client.set_terminated(run.id, _status(trial))
        if trial.state == TrialState.COMPLETE:
            self._show_best(trial)

    def artifact(self, path: Path) -> None:
        self.parent.log_artifact(path)

    def _show_best(self, trial: FrozenTrial) -> None:
        """The best figures so far on the parent run: MLflow's tables and charts show parents first."""
        name, maximise = self.sweep.file.objectives[0], self.study.directions[0] == optuna.study.StudyDirection.MAXIMIZE
        value = trial.values[0]
        self.complete += 1
        if self.best is None or (value > self.best if maximise else value < self.best):
            self.best = value
            self.parent.log_metrics({f"best_{name}": value}, step=self.complete)

    def _show_pictures(self, run: Run, key: str) -> None:
        """What was judged, from the cache; nothing where it is gone since, or damaged."""
        entry = self.cache.find(key) if key else None
        if not isinstance(entry, Entry):
            return
        with suppress(DamagedEntry):
            for name in sorted(entry.files):
                run.log_bytes(entry.read_bytes(name), name)

    def _go_together(self, values: Mapping[str, Any]) -> bool:
        try:
            self.sweep.params_of(values)
        except SweepError:
            return False
        return True

    def _is_of(self, block: str) -> bool:
        return block == "train_headgas" or self.sweep.touches_preprocess


@contextmanager
def study_record(params: Params, sweep: Sweep, study: optuna.Study) -> Iterator[StudyRecord]:
    """The study's parent run, made or taken up again, FINISHED, FAILED or KILLED when the block ends.

    Raises TrackingUnreachable.
    """
    client, uri = connect(params), tracking_uri(params)
    experiment_id = client.get_experiment_by_name(params.tracking.experiment).experiment_id
    close_abandoned(client, experiment_id, uri)
    known = study.user_attrs.get(MLFLOW, {})
    if known.get("uri") == uri and _exists(client, known["run_id"]):
        parent = Run(client, known["run_id"], experiment_id)
        client.update_run(parent.id, "RUNNING")
        client.set_tag(parent.id, ERROR_TAG, "")
    else:
        tags = {KIND_TAG: SWEEP, STUDY_TAG: sweep.name, **lineage_tags()}
        parent = start_run(client, experiment_id, f"sweep {sweep.name}", None, tags)
        study.set_user_attr(MLFLOW, {"uri": uri, "run_id": parent.id})
    remember_parent(parent.id, uri)
    record = StudyRecord(parent, sweep, study, Cache(params.compute.cache))
    try:
        if "sweep.trials" not in client.get_run(parent.id).data.params:  # new, or its first driver did not come so far
            parent.log_artifact(sweep.path)
            client.log_dict(parent.id, {**package_versions(), "optuna": optuna.__version__}, "environment.json")
            parent.log_params({"sweep": sweep.file.model_dump(mode="json")})
        _catch_up(record, study)
        yield record
    except BaseException as error:
        with if_it_answers():
            for run in children(client, experiment_id, parent.id):
                if run.info.status == "RUNNING":
                    client.set_terminated(run.info.run_id, "KILLED")
            client.set_tag(parent.id, ERROR_TAG, describe(error))
            client.set_terminated(parent.id, "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        raise
    else:
        client.set_terminated(parent.id, "FINISHED")
    finally:
        forget_parent()


def _catch_up(record: StudyRecord, study: optuna.Study) -> None:
    """Ends the runs of trials that have ended while nobody could write it."""
    client, experiment_id = record.parent.client, record.parent.experiment_id
    known = list(children(client, experiment_id, record.parent.id))
    record.runs |= {
        int(run.data.tags[NUMBER_TAG]): Run(client, run.info.run_id, experiment_id)
        for run in known
        if NUMBER_TAG in run.data.tags
    }
    # A driver that died between the tags and the status left a run that is RUNNING, or KILLED since: neither is written.
    written = {int(run.data.tags[NUMBER_TAG]): run.info.status for run in known if STATE_TAG in run.data.tags}
    for trial in study.get_trials(deepcopy=False):
        if not trial.state.is_finished():
            continue
        if written.get(trial.number) != _status(trial) and (is_settled(trial) or trial.number in record.runs):
            if trial.number in record.runs:
                record.runs[trial.number].recall()
            record.end(trial)
        elif trial.state == TrialState.COMPLETE:
            record._show_best(trial)


def _status(trial: FrozenTrial) -> str:
    """What MLflow says of a trial that has ended."""
    return "KILLED" if INTERRUPTED in trial.user_attrs else "FAILED" if trial.state == TrialState.FAIL else "FINISHED"


def _exists(client: Any, run_id: str) -> bool:
    from mlflow import MlflowException

    try:
        return bool(client.get_run(run_id).info.lifecycle_stage == "active")
    except MlflowException:
        return False
