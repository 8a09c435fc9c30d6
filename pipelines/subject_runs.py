"""The nested MLflow runs of subjects while a stage works on them: begun at a subject's first news, ended with its end.

The driver writes them, from what workers tell it. On the way nothing is owed to anybody: a store that does not answer is
left alone for a while, and the end completes what is missing, or fails as a stage does whose store does not answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pipelines.cache import Failure
from pipelines.news import Told
from pipelines.repro import ERROR_TAG
from pipelines.runs import Run
from pipelines.stage_state import describe
from pipelines.tracking import few_retries, if_it_answers, store_errors

REASON_TAG = "headwater.reason"
FIRST_PAUSE_S = 60.0
"""For so long a store that has not answered is left alone, and twice as long each time that it still does not."""


@dataclass(eq=False)
class _Subject:
    run: Run
    ended: bool = False

    def end(self, status: str, tags: Mapping[str, str]) -> None:
        if tags:
            self.run.set_tags(tags)
        self.run.client.set_terminated(self.run.id, status)
        self.ended = True


class SubjectRuns:
    """Hears of the subjects of a stage's fan-out (a `Listener`). Every run has the parameters of `blocks`."""

    def __init__(self, stage: Run, blocks: Mapping[str, Any]) -> None:
        self.stage, self.blocks = stage, blocks
        self.subjects: dict[str, _Subject] = {}
        self.failures: dict[str, Failure] = {}
        self.missed: dict[str, Told] = {}  # by subject: news that the store has not got yet
        self.pause_s = FIRST_PAUSE_S
        self.silent_until = 0.0  # on the monotonic clock; nothing is tried before

    def heard(self, told: Told) -> None:
        """Logs a subject's points, and its files as pictures, with those that were missed."""
        before = self.missed.get(told.item, Told(told.item, ""))
        points, files = [*before.points, *told.points], {**before.files, **told.files}
        self.missed[told.item] = Told(told.item, told.said, points, files)
        self._now(lambda: self._log(told.item))

    def failed(self, failure: Failure) -> None:
        """Ends the run of a subject that is in quarantine."""
        self.failures[failure.item] = failure
        self._now(lambda: self._end_failed(failure))

    def end_failed(self) -> None:
        """Ends the runs of all subjects in quarantine, where that could not be written at once."""
        for failure in self.failures.values():
            self._end_failed(failure)

    def end_open(self, error: BaseException) -> None:
        """Ends what is left, where the stage failed."""
        for subject in self.subjects.values():
            if not subject.ended:
                subject.end("FAILED", {ERROR_TAG: describe(error)})

    @contextmanager
    def finished(self, name: str, curve: Sequence[Mapping[str, float]]) -> Iterator[Run]:
        """The run of a subject that is done, its curve complete; ended with the block."""
        subject = self._subject(name)
        subject.run.log_new(curve)
        yield subject.run
        subject.end("FINISHED", {})

    def _end_failed(self, failure: Failure) -> None:
        subject = self._subject(failure.item)
        if not subject.ended:
            self._log(failure.item)
            subject.end("FAILED", {REASON_TAG: failure.reason, ERROR_TAG: " ".join(failure.message.split())[:500]})

    def _subject(self, name: str) -> _Subject:
        if name not in self.subjects:
            self.subjects[name] = _Subject(self.stage.start_child(name, self.blocks))
        return self.subjects[name]

    def _log(self, name: str) -> None:
        """Writes a subject's news that the store has not got yet."""
        if name not in self.missed:
            return
        told, subject = self.missed[name], self._subject(name)
        subject.run.log_new(told.points)
        for file, data in told.files.items():
            subject.run.log_bytes(data, file)
        del self.missed[name]

    def _now(self, write: Callable[[], None]) -> None:
        """Writes on the way: with little patience, and not again for a while once the store has not answered."""
        if time.monotonic() < self.silent_until:
            return
        try:
            with few_retries():  # the fan-out waits meanwhile
                write()
        except store_errors() as error:
            self.silent_until = time.monotonic() + self.pause_s
            print(
                f"MLflow does not answer ({describe(error)}); it is tried again in {self.pause_s:.0f} s, and what is still "
                "missing then comes when the stage ends",
                flush=True,
            )
            self.pause_s *= 2
        else:
            self.pause_s = FIRST_PAUSE_S


@contextmanager
def subject_runs(stage: Run, blocks: Mapping[str, Any]) -> Iterator[SubjectRuns]:
    """Where the block fails, so do the runs that have not ended."""
    subjects = SubjectRuns(stage, blocks)
    try:
        yield subjects
        subjects.end_failed()
    except BaseException as error:
        with if_it_answers():
            subjects.end_failed()
            subjects.end_open(error)
        raise
