"""What is trained: a recipe that can be sent to any process, and the run that it prepares there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from pipelines.fleet.loop import CURVE_EVERY, Hooks, Place, Steps, loop
from pipelines.schedule import probe_steps

State = Mapping[str, Any]


class Run(Protocol):
    """A run before its first step, or where its checkpoint left it."""

    @property
    def training(self) -> Steps:
        """The state, and one step."""
        ...

    def batches(self, steps: range, place: Place, threads: int) -> Iterator[Any]:
        """This process's part of the batch of each step, read ahead by so many threads."""
        ...

    def probe(self) -> dict[str, float]:
        """Figures of what was learned so far, for the curve."""
        ...

    def pictures(self) -> dict[str, bytes]:
        """Files that show what the probes have seen, by name."""
        ...


class Recipe(Protocol):
    """Plain values that make a run: the same one in whichever process."""

    def prepare(self, device: str) -> Run: ...


def steps_through(run: Run, place: Place, hooks: Hooks, threads: int) -> None:
    """Trains from the step that is reached to the last, as one of several processes."""
    options = run.training.options
    steps = range(run.training.step, options.steps)
    loop(
        run.training, run.batches(steps, place, threads), place, hooks, probe_steps(options.probes, options.steps, CURVE_EVERY)
    )
