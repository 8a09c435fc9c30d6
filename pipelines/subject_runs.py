"""The nested MLflow runs of subjects while a stage works on them: begun at a subject's first news, ended with its end.

The driver writes them, from what workers tell it. On the way nothing is owed to anybody: a store that does not answer is
left alone, and the end completes what is missing, or fails as a stage does whose store does not answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from pipelines.cache import Failure
from pipelines.news import Told
from pipelines.repro import ERROR_TAG
from pipelines.runs import Run
from pipelines.stage_state import describe
from pipelines.tracking import few_retries, store_errors

REASON_TAG = "headwater.reason"


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
        self.live = True

    def heard(self, told: Told) -> None:
        """Logs a subject's points, and its files as pictures."""
        self._now(lambda: self._log(told))

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
            subject.end("FAILED", {REASON_TAG: failure.reason, ERROR_TAG: " ".join(failure.message.split())[:500]})

    def _subject(self, name: str) -> _Subject:
        if name not in self.subjects:
            self.subjects[name] = _Subject(self.stage.start_child(name, self.blocks))
        return self.subjects[name]

    def _log(self, told: Told) -> None:
        subject = self._subject(told.item)
        subject.run.log_new(told.points)
        for name, data in told.files.items():
            subject.run.log_bytes(data, name)

    def _now(self, write: Callable[[], None]) -> None:
        """Writes on the way: with little patience, and nothing more once the store has not answered."""
        if not self.live:
            return
        try:
            with few_retries():  # the fan-out waits meanwhile
                write()
        except store_errors() as error:
            self.live = False
            print(f"MLflow does not answer ({describe(error)}); runs are completed when the stage ends", flush=True)


@contextmanager
def subject_runs(stage: Run, blocks: Mapping[str, Any]) -> Iterator[SubjectRuns]:
    """Where the block fails, so do the runs that have not ended."""
    subjects = SubjectRuns(stage, blocks)
    try:
        yield subjects
        subjects.end_failed()
    except BaseException as error:
        with suppress(*store_errors()):  # what went wrong before is what matters
            subjects.end_failed()
            subjects.end_open(error)
        raise
