"""The run of one fan-out: what is known, what is computed, and the account of every item."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TypeVar

import pyarrow as pa
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipelines import tables
from pipelines.atomic import DiskFull
from pipelines.cache import Cache, CacheUnusable, DamagedEntry, Entry, Failure, absolute_uri
from pipelines.cluster import actor_counts, ray_cluster
from pipelines.fanout.item import Item, Listener, Report, Step, chain_keys
from pipelines.fanout.ledger import Ledger
from pipelines.fanout.progress import ProgressLine
from pipelines.news import Told
from pipelines.params import Compute

T = TypeVar("T")
RETRY_VARIABLE = "HEADWATER_RETRY"
"""Reasons, separated by commas, whose remembered failures are tried again; `headwater retry` sets it."""

LEDGER_EVERY_S = 10.0

LOOK_UPS = 16
"""Items looked up at once: an object store or a network file system takes milliseconds for each."""


class RunStopped(RuntimeError):
    """The whole run cannot go on (a worker cannot start, the cache cannot be used); what is finished is kept."""


class TooManyQuarantined(RuntimeError):
    """More items failed than compute.max_quarantined allows, or none is left."""


@dataclass
class StepWork:
    """What was done of one step: attempts that succeeded, summed over workers."""

    seconds: float = 0.0
    items: int = 0
    frames: int = 0

    def add(self, seconds: float, items: int, frames: int) -> None:
        self.seconds += seconds
        self.items += items
        self.frames += frames


@dataclass
class FanOutResult:
    """What became of every item. Everything is ordered by item id, whatever order the work was done in."""

    stage: str
    steps: Sequence[Step]
    entries: dict[str, list[Entry]] = field(default_factory=dict)
    """Item id -> the entry of each step, for items that reached the end."""
    quarantined: list[Failure] = field(default_factory=list)
    computed: set[str] = field(default_factory=set)
    """Items of which at least one step was done in this run."""
    retries: int = 0
    work: dict[str, StepWork] = field(default_factory=dict)
    """Step name -> what was done of it in this run; empty when all was cached."""
    wall_seconds: float = 0.0

    @property
    def cached(self) -> int:
        """Number of items that were there already."""
        return len(self.entries.keys() - self.computed)

    def last(self, item_id: str) -> Entry:
        return self.entries[item_id][-1]

    def add_earlier(self, earlier: FanOutResult) -> None:
        """Counts what an earlier run over the same items did too."""
        self.computed |= earlier.computed & self.entries.keys()
        self.retries += earlier.retries
        self.wall_seconds += earlier.wall_seconds
        for name, done in earlier.work.items():
            self.work.setdefault(name, StepWork()).add(done.seconds, done.items, done.frames)

    def summary_line(self, things: str = "items") -> str:
        total = len(self.entries) + len(self.quarantined)
        return (
            f"{self.stage}: {total} {things}: {self.cached} cached, {len(self.computed)} computed, "
            f"{len(self.quarantined)} quarantined"
        )

    def quarantine_table(self) -> pa.Table:
        return pa.Table.from_pylist([failure.__dict__ for failure in self.quarantined], schema=tables.QUARANTINE)


def fan_out(
    stage: str,
    steps: Sequence[Step],
    items: Sequence[Item],
    *,
    compute: Compute,
    retry: Collection[str] | None = None,
    may_all_fail: bool = False,
    listener: Listener | None = None,
) -> FanOutResult:
    """Brings every item through all steps, from the cache where it is there, and accounts for each.

    `retry` are reasons whose remembered failures are tried again (default: those in HEADWATER_RETRY). `may_all_fail` where
    the stage has something to go on with even if no item is left. `listener` hears of items while they are done.
    Raises DiskFull, RunStopped, ClusterTooSmall or ClusterUnreachable when the run as a whole cannot go on, and
    TooManyQuarantined after everything was tried. Ray is started only if something is to be computed.
    """
    if len({item.id for item in items}) != len(items):
        raise ValueError(f"{stage}: item ids must be unique")
    start = time.monotonic()
    retry = _retry_from_environment() if retry is None else retry
    try:
        cache = Cache(compute.cache)
    except CacheUnusable as error:
        raise RunStopped(str(error)) from None
    ledger = Ledger(stage, states={item.id: "waiting" for item in items})
    result = FanOutResult(stage, steps)
    run = _Run(steps, items, cache, ledger, result, retry, listener)
    try:
        run.look_up()
        if run.todo:
            # On this machine the numbers of workers that the user asked for are started, whatever the number of cores.
            asked = sum(step.workers.num_cpus * max(step.workers.count, 1) for step in steps)
            known, failed = len(items) - len(run.todo), len(result.quarantined)
            with ray_cluster(asked), ProgressLine(stage, len(items), known, failed) as progress:
                run.compute(compute, progress)
    except CacheUnusable as error:
        raise RunStopped(str(error)) from None
    result.wall_seconds = time.monotonic() - start
    result.entries = {
        item.id: result.entries[item.id] for item in sorted(items, key=lambda i: i.id) if item.id in result.entries
    }
    result.quarantined.sort(key=lambda failure: failure.item)
    ledger.finished = time.time()
    ledger.save()
    _check_quarantine(result, len(items), compute.max_quarantined, may_all_fail)
    return result


def run_and_assemble(
    stage: str,
    steps: Sequence[Step],
    items: Sequence[Item],
    assemble: Callable[[FanOutResult], T],
    *,
    compute: Compute,
    things: str = "items",
    retry: Collection[str] | None = None,
    may_all_fail: bool = False,
    listener: Listener | None = None,
) -> tuple[FanOutResult, T]:
    """fan_out, then assemble(result). An entry that turns out damaged while it is read is made again, once.

    Prints the summary line. `retry`, `may_all_fail` and `listener` are fan_out's.
    """
    result = fan_out(stage, steps, items, compute=compute, retry=retry, may_all_fail=may_all_fail, listener=listener)
    try:
        assembled = assemble(result)
    except DamagedEntry as damage:
        if not any(entry.key == damage.key for entries in result.entries.values() for entry in entries):
            raise  # an entry of another fan-out, which has to make it again
        _forget_damaged(result, Cache(compute.cache))
        again = fan_out(stage, steps, items, compute=compute, may_all_fail=may_all_fail, listener=listener)
        again.add_earlier(result)
        result, assembled = again, assemble(again)
    print(result.summary_line(things), flush=True)
    if result.quarantined:
        _print_quarantine(result)
    return result, assembled


class _Run:
    """The state of one fan_out while it goes on."""

    def __init__(
        self,
        steps: Sequence[Step],
        items: Sequence[Item],
        cache: Cache,
        ledger: Ledger,
        result: FanOutResult,
        retry: Collection[str],
        listener: Listener | None,
    ) -> None:
        self.steps, self.items, self.cache, self.ledger = steps, items, cache, ledger
        self.result, self.retry, self.listener = result, retry, listener
        self.keys = {item.id: chain_keys(steps, item) for item in items}
        self.todo: list[tuple[Item, int]] = []
        self.remade: set[str] = set()  # keys of entries that were found damaged by the step after

    def look_up(self) -> None:
        """Finds what is known of each item; what is not goes to `todo` with the step it has to start at."""
        with ThreadPoolExecutor(LOOK_UPS) as pool:
            for item, (known, failure) in zip(self.items, pool.map(self._known, self.items), strict=True):
                if failure is not None:
                    self._quarantine(item, failure)
                elif len(known) < len(self.steps):
                    self.todo.append((item, len(known)))
                else:
                    self.result.entries[item.id] = known
                    self.ledger.set(item.id, "cached")

    def _known(self, item: Item) -> tuple[list[Entry], Failure | None]:
        """The entries of an item's first steps, and the failure that it ended in."""
        known: list[Entry] = []
        for key in self.keys[item.id]:
            found = self.cache.find(key)
            if isinstance(found, Failure) and found.reason in self.retry:
                self.cache.forget(key)
                found = None
            if not isinstance(found, Entry):
                return known, found
            known.append(found)
        return known, None

    def compute(self, compute: Compute, progress: ProgressLine) -> None:
        import ray

        from pipelines.fanout.dispatcher import ClusterTooSmall, Dispatcher, Task, room_wanted

        def task_for(item: Item, step: int) -> Task:
            keys = self.keys[item.id]
            return Task(item, step, keys[step], keys[step - 1] if step else None)

        def next_task(task: Task) -> Task | None:
            step = task.step + 1
            if step == len(self.steps):
                return None
            return None if isinstance(self.cache.find(self.keys[task.item.id][step]), Entry) else task_for(task.item, step)

        def remake_upstream(task: Task) -> Task | None:
            damaged = self.keys[task.item.id][task.step - 1]
            if damaged in self.remade:
                return None
            self.remade.add(damaged)
            self.cache.forget(damaged)
            return task_for(task.item, task.step - 1)

        def hear(told: Told) -> None:
            if self.ledger.states[told.item] != "waiting":  # an answer that comes after the item's end
                return
            progress.at_work[told.item] = told.said
            if self.listener is not None:
                self.listener.heard(told)

        resources = ray.cluster_resources()
        needed = [any(step <= index for _, step in self.todo) for index in range(len(self.steps))]
        kinds = [step.workers for step, wanted in zip(self.steps, needed, strict=True) if wanted]
        # A cluster may yet grow; this machine will not.
        if "RAY_ADDRESS" not in os.environ and sum(kind.num_gpus for kind in kinds) > resources.get("GPU", 0):
            raise ClusterTooSmall(room_wanted(self.steps, resources))
        found = iter(actor_counts(kinds, resources.get("CPU", 1), resources.get("GPU", 0), len(self.todo)))
        dispatcher = Dispatcher(
            self.steps,
            [next(found) if wanted else 0 for wanted in needed],
            cache_uri=absolute_uri(self.cache.uri),
            max_attempts=compute.max_attempts,
            timeout_s=compute.item_timeout_s,
            recycle_after=compute.recycle_after_items,
            next_task=next_task,
            is_done=lambda task: isinstance(self.cache.find(task.key), Entry),
            remake_upstream=remake_upstream,
            listen=hear if self.listener is not None else None,
        )
        last_saved = time.monotonic()
        try:
            for item, step in self.todo:
                dispatcher.add(task_for(item, step))
            for outcome in dispatcher.outcomes():
                if outcome is not None:
                    self._account(outcome.task, outcome.report, outcome.will_retry, progress)
                progress.show()
                if time.monotonic() - last_saved > LEDGER_EVERY_S:
                    self.ledger.save()
                    last_saved = time.monotonic()
        finally:
            dispatcher.close()
            self.ledger.save()

    def _account(self, task: object, report: Report, will_retry: bool, progress: ProgressLine) -> None:
        from pipelines.fanout.dispatcher import Task

        assert isinstance(task, Task)
        if report.status == "stop":
            raise (DiskFull(report.message) if report.reason == "disk_full" else RunStopped(report.message))
        progress.at_work.pop(task.item.id, None)
        name = self.steps[task.step].name
        if report.status == "done":
            self.result.work.setdefault(name, StepWork()).add(report.seconds, 1, task.item.frames)
            if task.step == len(self.steps) - 1 or self._is_complete(task.item):
                self._finish(task.item, progress)
        elif will_retry:
            self.result.retries += 1
            progress.retries += 1
        else:
            failure = Failure(
                self.result.stage,
                task.item.id,
                task.attempts,
                report.reason,
                report.error_class,
                report.message,
                report.traceback,
            )
            if failure.error_class != DamagedEntry.__name__:  # another entry's fault, which the next run may find mended
                self.cache.remember_failure(task.key, failure)
            self._quarantine(task.item, failure)
            progress.done += 1
            progress.quarantined += 1

    def _is_complete(self, item: Item) -> bool:
        return all(isinstance(self.cache.find(key), Entry) for key in self.keys[item.id])

    def _finish(self, item: Item, progress: ProgressLine) -> None:
        entries = [self.cache.find(key) for key in self.keys[item.id]]
        if not all(isinstance(entry, Entry) for entry in entries):
            raise RunStopped(f"{item.id}: its entry vanished from the cache {self.cache.uri} as soon as it was written")
        self.result.entries[item.id] = [entry for entry in entries if isinstance(entry, Entry)]
        self.result.computed.add(item.id)
        self.ledger.set(item.id, "computed")
        progress.done += 1
        progress.frames += item.frames

    def _quarantine(self, item: Item, failure: Failure) -> None:
        """Books a failure under this item's own names: what is remembered may come from a file that has moved since."""
        message = f"{item.made_from}: {failure.message}" if item.made_from else failure.message
        failure = replace(failure, stage=self.result.stage, item=item.id, message=message)
        self.result.quarantined.append(failure)
        self.ledger.set(item.id, "quarantined", failure.reason)
        if self.listener is not None:
            self.listener.failed(failure)


def _retry_from_environment() -> set[str]:
    return {reason for reason in os.environ.get(RETRY_VARIABLE, "").split(",") if reason}


def _forget_damaged(result: FanOutResult, cache: Cache) -> None:
    """Reads every file of every entry and forgets those that are damaged."""
    for entries in result.entries.values():
        for entry in entries:
            try:
                for name in entry.files:
                    entry.read_bytes(name)
            except DamagedEntry as damage:
                print(damage, flush=True)
                cache.forget(entry.key)


def _check_quarantine(result: FanOutResult, total: int, allowed: float, may_all_fail: bool) -> None:
    failed = len(result.quarantined)
    if total and (failed > allowed * total or (failed == total and not may_all_fail)):
        _print_quarantine(result)
        raise TooManyQuarantined(
            f"{result.stage}: {failed} of {total} items failed; compute.max_quarantined allows {allowed:.0%}"
            f"{'' if may_all_fail else ', and one must be left'}. "
            "The table above has the reasons; mend the cause, then `headwater retry STAGE REASON`, or raise the limit."
        )


def _print_quarantine(result: FanOutResult) -> None:
    table = Table("item", "reason", "attempts", "message", title=f"{result.stage}: quarantine")
    for failure in result.quarantined[:20]:
        cells = (failure.item, failure.reason, str(failure.attempts), failure.message.splitlines()[0][:160])
        table.add_row(*(escape(cell) for cell in cells))
    console = Console()
    console.print(table)
    if len(result.quarantined) > 20:
        console.print(f"... and {len(result.quarantined) - 20} more, see the stage's quarantine.parquet")
