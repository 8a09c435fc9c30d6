"""Hands items to Ray actors, and takes a dead actor for what it is: one failed attempt of the item it was doing.

Ray runs the calls of one actor in the order they were made, so the oldest unanswered call of an actor is the one that
was running when it died, unless its entry is there. That item alone is blamed; the ones behind it are handed out again
as if never sent. A poison item so costs exactly itself. Nothing is kept per item but a few small fields, and no more
than `IN_FLIGHT` calls per actor are outstanding, so memory does not grow with the number of items.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
import ray.exceptions

from pipelines.fanout.actor import StepActor, thread_environment
from pipelines.fanout.item import Item, Report, Step

IN_FLIGHT = 2
"""Calls outstanding per actor: the next item is already there when one ends."""

START_TIMEOUT_S = 180.0
"""How long to wait for the first actor of a step before saying that the cluster has no room for it."""


MAX_FAILED_STARTS = 8
"""Actors in a row that may die as they start before the run gives up."""


class ClusterTooSmall(RuntimeError):
    """No actor of a step could be placed; the message names what was wanted and what there is."""


@dataclass(eq=False)
class _Call:
    task: Task
    sent: float


@dataclass(eq=False)
class _Slot:
    """One actor and the calls it has not answered, oldest first."""

    step: int
    handle: Any
    ready: Any
    started: bool = False
    served: int = 0
    calls: dict[Any, _Call] = field(default_factory=dict)
    clock: float = 0.0  # when its oldest call began to run


@dataclass(eq=False)
class Task:
    """One step of one item, on its way."""

    item: Item
    step: int
    key: str
    upstream_key: str | None
    attempts: int = 0


@dataclass(frozen=True)
class Outcome:
    task: Task
    report: Report
    will_retry: bool


class Dispatcher:
    """Runs tasks on actors of each step; :meth:`outcomes` yields what became of them, in the order they end."""

    def __init__(
        self,
        steps: Sequence[Step],
        counts: Sequence[int],
        *,
        cache_uri: str,
        max_attempts: int,
        timeout_s: float,
        recycle_after: int,
        next_task: Callable[[Task], Task | None],
        is_done: Callable[[Task], bool],
    ) -> None:
        self.steps, self.cache_uri = steps, cache_uri
        self.max_attempts, self.timeout_s, self.recycle_after = max_attempts, timeout_s, recycle_after
        self.next_task, self.is_done = next_task, is_done
        self.waiting: list[deque[Task]] = [deque() for _ in steps]
        self.slots = [self._start(index) for index, count in enumerate(counts) for _ in range(count)]
        self.begun = time.monotonic()
        self.failed_starts = 0

    def add(self, task: Task) -> None:
        self.waiting[task.step].append(task)

    def outcomes(self) -> Iterator[Outcome | None]:
        """Yields each attempt's outcome until all is done; None now and then while nothing ends."""
        while any(self.waiting) or any(slot.calls for slot in self.slots):
            self._hand_out()
            yield from self._collect()
            yield from self._stop_overdue()
            self._check_started()

    def close(self) -> None:
        for slot in self.slots:
            ray.kill(slot.handle)

    def _start(self, index: int) -> _Slot:
        workers = self.steps[index].workers
        environment = {"env_vars": thread_environment(workers.num_cpus)}
        actor = ray.remote(StepActor).options(
            num_cpus=workers.num_cpus, num_gpus=workers.num_gpus, max_restarts=0, runtime_env=environment
        )
        handle = actor.remote(self.steps[index], self.cache_uri, str(Path.cwd()))
        return _Slot(index, handle, handle.ready.remote())

    def _hand_out(self) -> None:
        # Later steps first: an item that is half done is finished before another one is begun.
        for index in reversed(range(len(self.steps))):
            free = [slot for slot in self.slots if slot.step == index and slot.started and self._may_serve(slot)]
            for depth in range(IN_FLIGHT):
                for slot in free:
                    if self.waiting[index] and len(slot.calls) == depth:
                        self._send(slot, self.waiting[index].popleft())

    def _may_serve(self, slot: _Slot) -> bool:
        return slot.served + len(slot.calls) < self.recycle_after

    def _send(self, slot: _Slot, task: Task) -> None:
        now = time.monotonic()
        if not slot.calls:
            slot.clock = now
        slot.calls[slot.handle.run.remote(task.item, task.key, task.upstream_key)] = _Call(task, now)

    def _collect(self) -> Iterator[Outcome | None]:
        owner = {ref: slot for slot in self.slots for ref in ([*slot.calls] if slot.started else [slot.ready])}
        if not owner:
            time.sleep(0.05)
            return
        # Waiting for one and then taking all that are there keeps the cost of an item low with many actors.
        found, _ = ray.wait([*owner], num_returns=1, timeout=1.0)
        found, _ = ray.wait([*owner], num_returns=len(owner), timeout=0) if found else (found, None)
        if not found:
            yield None
        dead: dict[_Slot, ray.exceptions.RayError] = {}
        for ref in found:
            slot = owner[ref]
            try:
                answer = ray.get(ref)
            except ray.exceptions.RayError as error:
                dead[slot] = error
                continue
            if not slot.started:
                slot.started = True
                self.failed_starts = 0
                continue
            call = slot.calls.pop(ref)
            slot.served += 1
            slot.clock = time.monotonic()
            yield self._settle(call.task, answer)
            if not slot.calls and not self._may_serve(slot):
                self._replace(slot)
        for slot, death in dead.items():
            if not slot.started:
                self._count_failed_start(slot, death)
            yield from self._bury(slot, _death_report(death))

    def _count_failed_start(self, slot: _Slot, error: ray.exceptions.RayError) -> None:
        self.failed_starts += 1
        if self.failed_starts > MAX_FAILED_STARTS:
            raise ClusterTooSmall(f"workers of step {self.steps[slot.step].name} die as they start: {error}")

    def _bury(self, slot: _Slot, report: Report) -> Iterator[Outcome]:
        """Replaces an actor; its oldest call is blamed, the ones behind it go back to the front of the queue."""
        tasks = [call.task for call in slot.calls.values()]
        slot.calls.clear()
        self._replace(slot)
        # An answer may die with its process although the item was done: its entry in the cache tells.
        while tasks and self.is_done(tasks[0]):
            yield self._settle(tasks.pop(0), Report("done"))
        self.waiting[slot.step].extendleft(reversed(tasks[1:]))
        if tasks:
            yield self._settle(tasks[0], report)

    def _replace(self, slot: _Slot) -> None:
        ray.kill(slot.handle)
        self.slots[self.slots.index(slot)] = self._start(slot.step)

    def _settle(self, task: Task, report: Report) -> Outcome:
        task.attempts += 1
        retry = report.status == "failed" and task.attempts < self.max_attempts
        if retry:
            self.waiting[task.step].append(task)
        elif report.status == "done" and (following := self.next_task(task)) is not None:
            self.add(following)
        return Outcome(task, report, retry)

    def _stop_overdue(self) -> Iterator[Outcome]:
        now = time.monotonic()
        for slot in [slot for slot in self.slots if slot.calls and now - slot.clock > self.timeout_s]:
            message = f"still running after compute.item_timeout_s = {self.timeout_s:g} s; its worker was stopped"
            yield from self._bury(slot, Report("failed", self.timeout_s, "timeout", "Timeout", message))

    def _check_started(self) -> None:
        if time.monotonic() - self.begun < START_TIMEOUT_S:
            return
        for index, step in enumerate(self.steps):
            if self.waiting[index] and not any(slot.started for slot in self.slots if slot.step == index):
                raise ClusterTooSmall(
                    f"no worker of step {step.name} could be started within {START_TIMEOUT_S:g} s: it wants "
                    f"{step.workers.num_cpus:g} CPU and {step.workers.num_gpus:g} GPU, free are {_free_resources()}. "
                    "Lower compute.* in params.yaml or add nodes."
                )


def _death_report(error: ray.exceptions.RayError) -> Report:
    """What a process death is called; no ids and no addresses, so that quarantine tables do not differ."""
    if isinstance(error, ray.exceptions.OutOfMemoryError):
        message = "its worker was stopped for lack of memory: give it a node to itself (compute.*.num_cpus) or more memory"
        return Report("failed", 0.0, "out_of_memory", "OutOfMemory", message)
    return Report("failed", 0.0, "crashed", "WorkerDied", "its worker process died (a crash in native code, or killed)")


def _free_resources() -> str:
    free = ray.available_resources()
    return f"{free.get('CPU', 0):g} CPU and {free.get('GPU', 0):g} GPU"
