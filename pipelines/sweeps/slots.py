"""The actors that trials run in. A trial is a few calls: each goes on to where the trial has something to say.

So the driver hears of a trial in its own time, decides between two calls whether it is given up, and knows of a worker's
death as soon as Ray does.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import ray
import ray.exceptions

from pipelines.atomic import DiskFull
from pipelines.cache import CacheUnusable
from pipelines.cluster import actor_counts
from pipelines.fanout import ItemRejected, MachineUnfit
from pipelines.fanout.actor import worker_environment
from pipelines.fanout.dispatcher import MAX_FAILED_STARTS, START_TIMEOUT_S, ClusterTooSmall
from pipelines.params import Workers
from pipelines.stage_state import describe
from pipelines.sweeps.protocol import Finished, TrialTask, Watched, Work


@dataclass(frozen=True)
class Answer:
    """What came of one call: news, the end, or a failure.

    rejected is final, failed and died may be tried again, stop ends the whole sweep.
    """

    kind: Literal["watched", "finished", "rejected", "failed", "died", "stop"]
    seconds: float = 0.0
    news: Watched | Finished | None = None
    reason: str = ""
    message: str = ""


class TrialActor:
    """Does trials, one at a time. `make` builds what does them, at the first trial."""

    def __init__(self, make: Callable[[], Work], project: str) -> None:
        os.chdir(project)
        self.make = make
        self.work: Work | None = None
        self.trial: Iterator[Watched | Finished] | None = None

    def ready(self) -> int:
        """Answers as soon as the process is there, with its id."""
        return os.getpid()

    def advance(self, task: TrialTask | None) -> Answer:
        """Begins a trial, or goes on with the one at work, until it has news."""
        start = time.perf_counter()

        def seconds() -> float:
            return time.perf_counter() - start

        if self.work is None:
            try:
                self.work = self.make()
            except Exception as error:
                said = f"a worker of trials cannot start: {describe(error)}"
                return Answer("stop", seconds(), None, type(error).__name__, said)
        try:
            if task is not None:
                self.give_up()
                self.trial = iter(self.work(task))
            assert self.trial is not None
            news = next(self.trial)
        except ItemRejected as error:
            return Answer("rejected", seconds(), None, error.reason, error.message)
        except (DiskFull, CacheUnusable, MachineUnfit) as error:
            return Answer("stop", seconds(), None, type(error).__name__, str(error))
        except Exception as error:
            return Answer("failed", seconds(), None, type(error).__name__, describe(error))
        if not isinstance(news, Finished):
            return Answer("watched", seconds(), news)
        self.give_up()  # nothing more is asked of it: let it clear up now
        return Answer("finished", seconds(), news)

    def give_up(self) -> None:
        """Ends the trial at work, which clears up behind itself."""
        trial, self.trial = self.trial, None
        if trial is not None and hasattr(trial, "close"):
            trial.close()


@dataclass(eq=False)
class Slot:
    """One actor and the call that it has not answered."""

    handle: Any
    waits_for: Any
    since: float
    ready: bool = False


class Slots:
    """Room for trials side by side."""

    def __init__(self, make: Callable[[], Work], workers: Workers, trials: int, timeout_s: float) -> None:
        self.make, self.workers, self.timeout_s = make, workers, timeout_s
        there = ray.cluster_resources()
        if "RAY_ADDRESS" not in os.environ and workers.num_gpus > there.get("GPU", 0):
            raise ClusterTooSmall(self._room(there))
        (count,) = actor_counts([workers], there.get("CPU", 1), there.get("GPU", 0), max(trials, 1))
        self.slots = [self._start() for _ in range(count)]
        self.begun = time.monotonic()
        self.failed_starts = 0

    def __len__(self) -> int:
        return len(self.slots)

    def idle(self) -> list[Slot]:
        return [slot for slot in self.slots if slot.ready and slot.waits_for is None]

    def advance(self, slot: Slot, task: TrialTask | None = None) -> None:
        """Begins a trial in the slot, or goes on with the one that is there. Ray holds the call for a process that starts."""
        slot.waits_for, slot.since, slot.ready = slot.handle.advance.remote(task), time.monotonic(), True

    def give_up(self, slot: Slot) -> None:
        """Ends the slot's trial; the next call waits for that by itself."""
        slot.handle.give_up.remote()

    def answers(self) -> Iterator[tuple[Slot, Answer]]:
        """What has come in after a second at most. A dead actor is replaced."""
        waiting = {slot.waits_for: slot for slot in self.slots if slot.waits_for is not None}
        if not waiting:
            return
        found, _ = ray.wait([*waiting], num_returns=1, timeout=1.0)
        found = ray.wait([*waiting], num_returns=len(waiting), timeout=0)[0] if found else []
        for ref in found:
            slot = waiting[ref]
            was_ready, slot.waits_for = slot.ready, None
            try:
                answer = ray.get(ref)
            except ray.exceptions.RayError as error:
                self._replace(slot)
                words = " ".join(str(error).split())[:300]
                if was_ready:
                    yield slot, Answer("died", 0.0, None, "worker_died", f"its worker died: {words}")
                else:
                    self._count_failed_start(words)
                continue
            slot.ready, self.failed_starts = True, 0
            if was_ready:
                yield slot, answer
        yield from self._stop_overdue()
        if not any(slot.ready for slot in self.slots) and time.monotonic() - self.begun > START_TIMEOUT_S:
            raise ClusterTooSmall(self._room(ray.cluster_resources()))

    def close(self) -> None:
        for slot in self.slots:
            ray.kill(slot.handle)

    def _stop_overdue(self) -> Iterator[tuple[Slot, Answer]]:
        for slot in self.slots:
            seconds = time.monotonic() - slot.since
            if slot.ready and slot.waits_for is not None and seconds > self.timeout_s:
                ray.kill(slot.handle)
                self._replace(slot)
                message = f"no news for {seconds:.0f} s (compute.item_timeout_s)"
                yield slot, Answer("died", seconds, None, "timed_out", message)

    def _count_failed_start(self, words: str) -> None:
        self.failed_starts += 1
        if self.failed_starts > MAX_FAILED_STARTS:
            raise ClusterTooSmall(f"the workers of trials die as they start: {words}")

    def _start(self) -> Slot:
        actor = ray.remote(TrialActor).options(
            num_cpus=self.workers.num_cpus,
            num_gpus=self.workers.num_gpus,
            max_restarts=0,
            runtime_env={"env_vars": worker_environment(self.workers.num_cpus)},
        )
        handle = actor.remote(self.make, str(Path.cwd()))
        return Slot(handle, handle.ready.remote(), time.monotonic())

    def _replace(self, slot: Slot) -> None:
        fresh = self._start()
        slot.handle, slot.waits_for, slot.since, slot.ready = fresh.handle, fresh.waits_for, fresh.since, False

    def _room(self, there: dict[str, float]) -> str:
        return (
            f"A trial needs {self.workers.num_cpus:g} CPU and {self.workers.num_gpus:g} GPU (slots in the sweep's file); "
            f"Ray has {there.get('CPU', 0):g} CPU and {there.get('GPU', 0):g} GPU. Lower slots or add nodes."
        )
