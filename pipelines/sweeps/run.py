"""The driver of a sweep: asks the study for values, hands them to slots, tells the study what became of them.

Only this process writes to the study and to MLflow. A slot gets its next trial before the last one is written to MLflow.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import optuna
from optuna.trial import FrozenTrial, TrialState

from pipelines.atomic import DiskFull
from pipelines.fanout import RunStopped
from pipelines.fanout.progress import ProgressLine
from pipelines.params import Compute
from pipelines.sweeps.config import Sweep, SweepError
from pipelines.sweeps.protocol import Finished, TrialTask, Watched
from pipelines.sweeps.slots import Answer, Slot, Slots
from pipelines.sweeps.study import RESULT, next_trial, settled_trials
from pipelines.sweeps.trial import report_steps

HOPELESS = 5
"""So many trials fail, and none succeeds, before a sweep gives up."""


class Record(Protocol):
    """What is told of trials as they begin, on their way and when they have ended."""

    def begin(self, number: int, values: Mapping[str, Any]) -> None: ...

    def watch(self, number: int, points: Sequence[Mapping[str, float]]) -> None: ...

    def end(self, trial: FrozenTrial) -> None: ...


@dataclass(eq=False)
class _Running:
    """A trial in a slot."""

    trial: optuna.Trial
    task: TrialTask
    reported: set[int]
    watched: list[dict[str, float]]
    attempts: int = 1
    seconds: float = 0.0  # its worker's own time


class Driver:
    """One run of a sweep, up to the number of trials that its file asks for."""

    def __init__(self, sweep: Sweep, study: optuna.Study, slots: Slots, compute: Compute, record: Record) -> None:
        self.sweep, self.study, self.slots, self.record = sweep, study, slots, record
        self.max_attempts = compute.max_attempts
        self.running: dict[Slot, _Running] = {}
        self.ended: list[int] = []  # told to the study, not yet recorded
        self.news: list[tuple[int, Sequence[Mapping[str, float]]]] = []  # of trials at work, not yet recorded
        self.at_work: dict[str, str] = {}  # for the progress line
        self.failed = self.succeeded = self.retries = 0
        self.trial_seconds = 0.0
        """Time that trials took of their workers, summed."""

    def run(self) -> None:
        """Raises DiskFull, RunStopped, ClusterTooSmall and SweepError; what is finished stays so."""
        settled = len(settled_trials(self.study))
        with ProgressLine(f"sweep {self.sweep.name}", self.sweep.file.trials, settled) as progress:
            while True:
                begun = self._fill(self.sweep.file.trials - settled)
                for number, values in begun:
                    self.record.begin(number, values)
                self._record_news()
                self._record_ended()
                if not self.running and settled >= self.sweep.file.trials:
                    return
                before = len(self.ended)
                for slot, answer in self.slots.answers():
                    self._take(slot, self.running[slot], answer)
                settled += len(self.ended) - before
                progress.done, progress.retries, progress.quarantined = settled, self.retries, self.failed
                progress.at_work = self.at_work
                progress.show()

    def _fill(self, left: int) -> list[tuple[int, Mapping[str, Any]]]:
        begun: list[tuple[int, Mapping[str, Any]]] = []
        for slot in self.slots.idle():
            if len(self.running) >= left:
                break
            trial = next_trial(self.study, self.sweep)
            known = self.study.get_trials(deepcopy=False)[trial.number].intermediate_values  # of one that was interrupted
            watched = [
                {"step": step, f"watched_{self.sweep.watched}": known[k]} for k, step in self._stops(trial) if k in known
            ]
            self.running[slot] = _Running(trial, TrialTask(trial.number, trial.params), set(known), watched)
            self.slots.advance(slot, self.running[slot].task)
            begun.append((trial.number, trial.params))
        return begun

    def _stops(self, trial: optuna.Trial) -> list[tuple[int, int]]:
        try:
            return report_steps(self.sweep.params_of(trial.params).train_headgas.steps, self.sweep.reports)
        except SweepError:  # its worker will say so
            return []

    def _take(self, slot: Slot, running: _Running, answer: Answer) -> None:
        running.seconds += answer.seconds
        if isinstance(answer.news, Watched):
            self._watch(slot, running, answer.news)
        elif isinstance(answer.news, Finished):
            self._finish(slot, running, answer.news)
        elif answer.kind == "stop":
            raise (DiskFull if answer.reason == "DiskFull" else RunStopped)(answer.message)
        elif answer.kind == "rejected" or running.attempts >= self.max_attempts:
            self._fail(slot, running, answer.reason, answer.message)
        else:
            running.attempts += 1
            self.retries += 1
            self.slots.advance(slot, running.task)

    def _watch(self, slot: Slot, running: _Running, news: Watched) -> None:
        value = float(news.figures[self.sweep.watched])
        if news.report not in running.reported:  # else a worker before this one was as far
            running.watched.append({"step": news.step, **{f"watched_{name}": found for name, found in news.figures.items()}})
        self.news.append((running.trial.number, [*news.curve, *running.watched]))
        self.at_work[f"trial {running.trial.number}"] = f"step {news.step}, {self.sweep.watched} {value:.4g}"
        single = len(self.sweep.file.objectives) == 1  # Optuna keeps no values on the way for several objectives
        if self.sweep.file.pruning is None:
            self.slots.advance(slot)
        if single and news.report not in running.reported:
            running.trial.report(value, news.report)
        running.reported.add(news.report)
        if self.sweep.file.pruning is None:
            return
        if running.trial.should_prune():
            self.slots.give_up(slot)
            self._end(slot, running, TrialState.PRUNED, None, {"stopped_at": value})
        else:
            self.slots.advance(slot)

    def _finish(self, slot: Slot, running: _Running, news: Finished) -> None:
        values = [float(news.figures[name]) for name in self.sweep.file.objectives]
        if not all(math.isfinite(value) for value in values):
            self._fail(slot, running, "not_finite", f"{dict(zip(self.sweep.file.objectives, values, strict=True))}")
            return
        result = {"figures": dict(news.figures), "curve": list(news.curve), "entry": news.entry}
        self._end(slot, running, TrialState.COMPLETE, values, result)
        self.succeeded += 1

    def _fail(self, slot: Slot, running: _Running, reason: str, message: str) -> None:
        self._end(slot, running, TrialState.FAIL, None, {"reason": reason, "message": message})
        self.failed += 1
        if self.failed >= min(HOPELESS, self.sweep.file.trials) and not self.succeeded and not self._any_complete():
            self._record_news()
            self._record_ended()
            raise SweepError(f"{self.sweep.path}: {self.failed} trials failed and none succeeded; the last: {message}")

    def _any_complete(self) -> bool:
        return any(trial.state != TrialState.FAIL for trial in settled_trials(self.study))

    def _end(
        self, slot: Slot, running: _Running, state: TrialState, values: list[float] | None, result: Mapping[str, Any]
    ) -> None:
        told = {**result, "watched": running.watched, "attempts": running.attempts, "seconds": round(running.seconds, 3)}
        running.trial.set_user_attr(RESULT, told)
        self.study.tell(running.trial, values, state)
        del self.running[slot]
        self.ended.append(running.trial.number)
        self.at_work.pop(f"trial {running.trial.number}", None)
        self.trial_seconds += running.seconds

    def _record_news(self) -> None:
        while self.news:
            self.record.watch(*self.news[0])
            del self.news[0]

    def _record_ended(self) -> None:
        trials = self.study.get_trials(deepcopy=False) if self.ended else []
        while self.ended:
            self.record.end(trials[self.ended[0]])
            del self.ended[0]
