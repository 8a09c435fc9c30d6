"""The loop over steps, the same in one process and in each of many.

The samples of all steps are one stream; step t takes the `batch` samples after t * batch, and of those process r of W takes
every W-th. So a run that was cut, or goes on with fewer workers, sees what it would have seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from pipelines.training import means_of

CURVE_EVERY = 10

Terms = dict[str, float]


class Options(Protocol):
    """What every training has."""

    @property
    def steps(self) -> int: ...
    @property
    def batch(self) -> int: ...
    @property
    def checkpoint_every(self) -> int: ...
    @property
    def probes(self) -> int: ...


class Steps(Protocol):
    """The state of a run, and one step."""

    @property
    def options(self) -> Options: ...
    @property
    def device(self) -> str: ...

    step: int
    """Steps that are done."""
    curve: list[dict[str, float]]

    def one_step(self, batch: Any, share: float) -> Terms:
        """One update. `share`: this process's part of the samples times the number of processes; one where all have as many.

        Raises TrainingDiverged.
        """
        ...

    def distribute(self) -> None:
        """From now on gradients are averaged over all processes."""
        ...

    def state(self) -> dict[str, Any]:
        """All that a later run goes on from."""
        ...

    def load_state(self, state: Mapping[str, Any]) -> None: ...


@dataclass(frozen=True)
class Place:
    """Which of how many processes this is."""

    rank: int = 0
    world: int = 1

    def samples(self, step: int, batch: int) -> range:
        """Places in the stream that this process takes at a step."""
        return range(step * batch + self.rank, (step + 1) * batch, self.world)

    def share(self, step: int, batch: int) -> float:
        """This process's samples of a step, over their mean number in all processes."""
        return len(self.samples(step, batch)) * self.world / batch


@dataclass(frozen=True)
class Hooks:
    """What happens between steps. All are called at the same steps in all processes."""

    mean: Callable[[Terms], Terms]
    """Of what each process found, by its share."""
    step: Callable[[], None]
    """A step was made."""
    point: Callable[[], None]
    """A point was added to the curve."""
    checkpoint: Callable[[], None]
    probe: Callable[[], Mapping[str, float]]
    """Gives figures for the curve."""


def loop(training: Steps, batches: Iterator[Any], place: Place, hooks: Hooks, probes: set[int]) -> None:
    """Trains to the end. Raises TrainingDiverged."""
    options = training.options
    recent: list[Terms] = []
    for batch in batches:
        share = place.share(training.step, options.batch)
        found = training.one_step(batch.to(training.device), share)
        recent.append({name: value * share for name, value in found.items()})
        hooks.step()
        last = training.step == options.steps
        if training.step % CURVE_EVERY == 0 or last:
            figures = hooks.probe() if training.step in probes else {}
            training.curve.append({"step": float(training.step), **hooks.mean(means_of(recent)), **figures})
            recent = []
            hooks.point()
        if training.step % options.checkpoint_every == 0 or last:
            hooks.checkpoint()
