"""Hands items to Ray actors, and takes a dead actor for what it is: one failed attempt of the item it was doing.

An actor that held one item when it died dies of that item: it is blamed with an attempt. An actor that held two says
nothing for certain, since the answer of the first may have died with the process, so neither is blamed and each is run
again alone, where a death is unambiguous. A poison item so costs exactly itself, and the attempts that are counted do
not depend on what it happened to share an actor with. A time-out needs no such care: the process is alive, so the oldest
unanswered call is the one that hangs (Ray runs the calls of an actor in the order they were made).

Nothing is kept per item but a few small fields, and no more than `IN_FLIGHT` calls per actor are outstanding, so memory
does not grow with the number of items.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import ray
import ray.exceptions

from pipelines.fanout.actor import StepActor, worker_environment
from pipelines.fanout.item import Item, Report, Step
from pipelines.news import Told

IN_FLIGHT = 2
"""Calls outstanding per actor: the next item is already there when one ends."""

START_TIMEOUT_S = 180.0
"""How long a step with work may be without any actor before the run says that the cluster has no room for one."""

MAKE_ROOM_AFTER_S = 10.0
"""How long it may be so before surplus actors of the other steps give way: a lost node, or room split over nodes."""

RECYCLE_NOT_BEFORE_S = 20.0
"""An actor younger than this is not replaced: a new process costs about a second, more than 200 trivial items do."""

LISTEN_EVERY_S = 2.0
"""How often actors at work are asked for news, where somebody listens."""

LISTENING_SHARE = 0.1
"""Most of the driver's time that listening may take: with many actors they are asked less often."""

NEWS = "news"
"""Ray's name for the threads that answer for news while an item is done."""

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
    started: float | None = None  # when it said that it is there
    served: int = 0
    retiring: bool = False  # gets no more work, and goes without a successor
    calls: dict[Any, _Call] = field(default_factory=dict)
    clock: float = 0.0  # when its oldest call began to run
    asked: Any = None  # for news, and not answered yet


@dataclass(eq=False)
class Task:
    """One step of one item, on its way."""

    item: Item
    step: int
    key: str
    upstream_key: str | None
    attempts: int = 0
    alone: bool = False  # shared an actor that died: in company nobody could tell whose fault it is


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
        remake_upstream: Callable[[Task], Task | None],
        listen: Callable[[Told], None] | None = None,
    ) -> None:
        self.steps, self.cache_uri = steps, cache_uri
        self.max_attempts, self.timeout_s, self.recycle_after = max_attempts, timeout_s, recycle_after
        self.next_task, self.is_done, self.remake_upstream = next_task, is_done, remake_upstream
        self.listen, self.ask_at = listen, 0.0
        self.waiting: list[deque[Task]] = [deque() for _ in steps]
        self.suspects: list[deque[Task]] = [deque() for _ in steps]
        # One of each step first: where there is less room than was counted on, every step still gets an actor.
        rounds = range(max(counts, default=0))
        self.slots = [self._start(index) for turn in rounds for index in reversed(range(len(steps))) if turn < counts[index]]
        self.without_actor: dict[int, float] = {}  # step that has work -> since when it has no actor
        self.room_made: dict[int, float] = {}
        self.failed_starts = 0

    def add(self, task: Task) -> None:
        (self.suspects if task.alone else self.waiting)[task.step].append(task)

    def outcomes(self) -> Iterator[Outcome | None]:
        """Yields each attempt's outcome until all is done; None now and then while nothing ends."""
        while any(self.waiting) or any(self.suspects) or any(slot.calls for slot in self.slots):
            self._hand_out()
            yield from self._collect()
            yield from self._stop_overdue()
            if self.listen is not None:
                self._hear(self.listen)
            self._see_to_steps_without_actor()

    def close(self) -> None:
        for slot in self.slots:
            ray.kill(slot.handle)

    def _start(self, index: int) -> _Slot:
        workers = self.steps[index].workers
        environment = {"env_vars": worker_environment(workers.num_cpus)}
        # Only where somebody listens: with a group of its own for news, an actor's items are not done in its main thread.
        made = ray.remote(concurrency_groups={NEWS: 1})(StepActor) if self.listen is not None else ray.remote(StepActor)
        actor = made.options(num_cpus=workers.num_cpus, num_gpus=workers.num_gpus, max_restarts=0, runtime_env=environment)
        handle = actor.remote(self.steps[index], self.cache_uri, str(Path.cwd()))
        return _Slot(index, handle, handle.ready.remote())

    def _hand_out(self) -> None:
        # Later steps first: an item that is half done is finished before another one is begun.
        for index in reversed(range(len(self.steps))):
            waiting, suspects = self.waiting[index], self.suspects[index]
            free = [slot for slot in self.slots if slot.step == index and slot.started is not None and self._may_serve(slot)]
            for depth in range(IN_FLIGHT):
                for slot in free:
                    if len(slot.calls) != depth or any(call.task.alone for call in slot.calls.values()):
                        continue
                    if suspects and not slot.calls:
                        self._send(slot, suspects.popleft())
                    elif waiting:
                        self._send(slot, waiting.popleft())

    def _may_serve(self, slot: _Slot) -> bool:
        if slot.retiring:
            return False
        young = slot.started is not None and time.monotonic() - slot.started < RECYCLE_NOT_BEFORE_S
        return young or slot.served + len(slot.calls) < self.recycle_after

    def _send(self, slot: _Slot, task: Task) -> None:
        now = time.monotonic()
        if not slot.calls:
            slot.clock = now
        slot.calls[slot.handle.run.remote(task.item, task.key, task.upstream_key)] = _Call(task, now)

    def _collect(self) -> Iterator[Outcome | None]:
        owner = {ref: slot for slot in self.slots for ref in ([*slot.calls] if slot.started is not None else [slot.ready])}
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
            if slot.started is None:
                slot.started = time.monotonic()
                self.failed_starts = 0
                continue
            call = slot.calls.pop(ref)
            slot.served += 1
            slot.clock = time.monotonic()
            yield self._settle(call.task, answer)
            if not slot.calls and not self._may_serve(slot):
                self._replace(slot)
        for slot, death in dead.items():
            if slot.started is None:
                self._count_failed_start(slot, death)
            yield from self._bury(slot, _death_report(death))

    def _count_failed_start(self, slot: _Slot, error: ray.exceptions.RayError) -> None:
        self.failed_starts += 1
        if self.failed_starts > MAX_FAILED_STARTS:
            raise ClusterTooSmall(f"workers of step {self.steps[slot.step].name} die as they start: {error}")

    def _bury(self, slot: _Slot, report: Report) -> Iterator[Outcome]:
        """Replaces a dead actor; what it held is blamed if it held one item, and run again alone if it held more."""
        tasks = self._empty(slot)
        for task in tasks:
            # An answer may die with its process although the item was done: its entry in the cache tells.
            if self.is_done(task):
                yield self._settle(task, Report("done"))
            elif len(tasks) == 1:
                yield self._settle(task, report)
            else:
                task.alone = True
                self.add(task)

    def _empty(self, slot: _Slot) -> list[Task]:
        """Takes an actor's calls from it, oldest first, and replaces it."""
        tasks = [call.task for call in slot.calls.values()]
        slot.calls.clear()
        self._replace(slot)
        return tasks

    def _replace(self, slot: _Slot) -> None:
        ray.kill(slot.handle)
        place = self.slots.index(slot)
        self.slots[place : place + 1] = [] if slot.retiring else [self._start(slot.step)]

    def _settle(self, task: Task, report: Report) -> Outcome:
        if report.status == "damaged":
            if (earlier := self.remake_upstream(task)) is not None:
                self.add(earlier)
                return Outcome(task, report, True)
            report = replace(report, status="failed")
        if report.status == "failed" and self.is_done(task):  # another run on the same cache has made it meanwhile
            report = Report("done")
        task.attempts += 1
        retry = report.status == "failed" and task.attempts < self.max_attempts
        if retry:
            self.add(task)
        elif report.status == "done" and (following := self.next_task(task)) is not None:
            self.add(following)
        return Outcome(task, report, retry)

    def _hear(self, listen: Callable[[Told], None]) -> None:
        """Asks actors at work for news now and then, and passes on what has been answered; waits for nothing."""
        start = time.monotonic()
        if start >= self.ask_at:
            self.ask_at = start + LISTEN_EVERY_S
            for slot in self.slots:
                if slot.calls and slot.asked is None:
                    slot.asked = slot.handle.news.options(concurrency_group=NEWS).remote()
        asked = {slot.asked: slot for slot in self.slots if slot.asked is not None}
        if not asked:
            return
        for ref in ray.wait([*asked], num_returns=len(asked), timeout=0)[0]:
            asked[ref].asked = None
            try:
                told = ray.get(ref)
            except ray.exceptions.RayError:  # the actor is gone, which its item's call says too
                continue
            if told is not None:
                listen(told)
        now = time.monotonic()
        self.ask_at = max(self.ask_at, now + (now - start) / LISTENING_SHARE)

    def _stop_overdue(self) -> Iterator[Outcome]:
        now = time.monotonic()
        for slot in [slot for slot in self.slots if slot.calls and now - slot.clock > self.timeout_s]:
            message = f"still running after compute.item_timeout_s = {self.timeout_s:g} s; its worker was stopped"
            overdue, *behind = self._empty(slot)
            for task in reversed(behind):  # back to the front of the queue, as if never sent
                (self.suspects if task.alone else self.waiting)[task.step].appendleft(task)
            yield self._settle(overdue, Report("failed", self.timeout_s, "timeout", "Timeout", message))

    def _see_to_steps_without_actor(self) -> None:
        """Makes room for a step that has work but no actor, and gives up when none could be placed for long."""
        now = time.monotonic()
        for index in range(len(self.steps)):
            own = [slot for slot in self.slots if slot.step == index and not slot.retiring]
            if not (self.waiting[index] or self.suspects[index]) or any(slot.started is not None for slot in own):
                self.without_actor.pop(index, None)
                continue
            if not own:  # it gave way to another step, or only a damaged entry brought work for it
                self.slots.append(self._start(index))
            since = self.without_actor.setdefault(index, now)
            if now - max(since, self.room_made.get(index, since)) > MAKE_ROOM_AFTER_S:
                self.room_made[index] = now
                self._make_room()
            if now - since > START_TIMEOUT_S:
                raise ClusterTooSmall(
                    f"no worker of step {self.steps[index].name} could be started within {START_TIMEOUT_S:g} s. "
                    + room_wanted(self.steps, ray.cluster_resources(), ray.available_resources())
                )

    def _make_room(self) -> None:
        """Lets surplus actors go: those that wait for a place themselves, or else one that is at work."""
        surplus: list[_Slot] = []
        for index in range(len(self.steps)):
            own = sorted(
                (slot for slot in self.slots if slot.step == index and not slot.retiring),
                key=lambda slot: (slot.started is None, -len(slot.calls)),
            )
            keep = 1 if self._may_have_work(index) else 0
            surplus.extend(own[keep:])
        unplaced = [slot for slot in surplus if slot.started is None]
        for slot in unplaced or sorted(surplus, key=lambda slot: len(slot.calls))[:1]:
            slot.retiring = True
            if not slot.calls:
                self._replace(slot)

    def _may_have_work(self, index: int) -> bool:
        """Whether anything may still come to a step: from its own queue, or from a step before it."""
        return any(self.waiting[: index + 1]) or any(self.suspects[: index + 1]) or any(
            slot.calls for slot in self.slots if slot.step <= index
        )  # fmt: skip


def _death_report(error: ray.exceptions.RayError) -> Report:
    """What a process death is called; no ids and no addresses, so that quarantine tables do not differ."""
    if isinstance(error, ray.exceptions.OutOfMemoryError):
        message = "its worker was stopped for lack of memory: give it a node to itself (compute.*.num_cpus) or more memory"
        return Report("failed", 0.0, "out_of_memory", "OutOfMemory", message)
    return Report("failed", 0.0, "crashed", "WorkerDied", "its worker process died (a crash in native code, or killed)")


def room_wanted(steps: Sequence[Step], there: Mapping[str, float], free: Mapping[str, float] | None = None) -> str:
    """The room that one worker of each step needs together, beside what the cluster has, and the way out."""
    each = ", ".join(f"{step.name} {step.workers.num_cpus:g} CPU and {step.workers.num_gpus:g} GPU" for step in steps)
    cpus, gpus = (sum(getattr(step.workers, name) for step in steps) for name in ("num_cpus", "num_gpus"))
    left = "" if free is None else f", of which {free.get('CPU', 0):g} CPU and {free.get('GPU', 0):g} GPU are free"
    return (
        f"One worker of each step is needed at least ({each}), together {cpus:g} CPU and {gpus:g} GPU; Ray has "
        f"{there.get('CPU', 0):g} CPU and {there.get('GPU', 0):g} GPU{left}. Lower compute.* in params.yaml or add nodes."
    )
