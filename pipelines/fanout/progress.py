"""What a person sees while items are done: a live bar in a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

LINE_EVERY_S = 10.0
SHOWN_AT_WORK = 3
"""Items whose own words are shown."""


class ProgressLine:
    """Counts items, frames, retries and quarantined items, and shows rates and the time left."""

    def __init__(self, stage: str, total: int, known: int = 0, quarantined: int = 0) -> None:
        """`known` of the `total` items were known before, `quarantined` of those as failed."""
        self.stage, self.total, self.known = stage, total, known
        self.done, self.quarantined = known, quarantined
        self.frames = self.retries = 0
        self.at_work: dict[str, str] = {}
        """Item -> what its worker last said of it, where it says anything."""
        self.seen_done, self.last_done = known, time.monotonic()
        self.start = self.last_line = time.monotonic()
        self.bar: Progress | None = None
        if sys.stderr.isatty():
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rates]}"),
            )
            self.bar = Progress(*columns, TimeRemainingColumn(), transient=True)
            self.task = self.bar.add_task(stage, total=total, rates="")

    def __enter__(self) -> ProgressLine:
        if self.bar:
            self.bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.bar:
            self.bar.stop()

    def rates(self) -> str:
        seconds = max(time.monotonic() - self.start, 1e-6)
        frames = f", {self.frames / seconds:.1f} frames/s" if self.frames else ""
        done = self.done - self.known
        pace = f"{done / seconds:.2f} items/s{frames}" if done else "none finished yet"
        return f"{pace}, {self.retries} retries, {self.quarantined} quarantined"

    def news(self) -> str:
        """What items at work say of themselves: `; ada: step 350 of 1500, loss 0.031`."""
        shown = [f"; {item}: {said}" for item, said in list(self.at_work.items())[:SHOWN_AT_WORK]]
        more = len(self.at_work) - len(shown)
        return "".join(shown) + (f"; and {more} more" if more else "")

    def seconds_left(self) -> float:
        """By the pace of those that have finished; what is at work now has been so since the last one did."""
        pace = (self.last_done - self.start) / max(self.done - self.known, 1)
        return max((self.total - self.done) * pace - (time.monotonic() - self.last_done), 0.0)

    def show(self) -> None:
        if self.done != self.seen_done:
            self.seen_done, self.last_done = self.done, time.monotonic()
        if self.bar:
            self.bar.update(self.task, completed=self.done, rates=escape(self.rates() + self.news()))
        elif time.monotonic() - self.last_line > LINE_EVERY_S:
            self.last_line = time.monotonic()
            spent = self.last_line - self.start
            left = f"about {self.seconds_left():.0f} s left" if self.done > self.known else f"{spent:.0f} s so far"
            print(f"{self.stage}: {self.done}/{self.total}, {self.rates()}, {left}{self.news()}", flush=True)
