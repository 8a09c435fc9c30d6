"""The loop over steps, the same in one process and in each of many."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from pipelines.oneshot.pairs import Batch
from pipelines.oneshot.stream import samples_of_step
from pipelines.oneshot.training import OneshotTraining

CURVE_EVERY = 10

Terms = dict[str, float]


@dataclass(frozen=True)
class Place:
    """Which of how many processes this is."""

    rank: int = 0
    world: int = 1

    def share(self, step: int, batch: int) -> float:
        """This process's samples of a step, over their mean number in all processes."""
        return len(samples_of_step(step, batch, self.rank, self.world)) * self.world / batch


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
    """Renders held-out pairs; gives figures for the curve."""


def run(training: OneshotTraining, batches: Iterator[Batch], place: Place, hooks: Hooks, probes: set[int]) -> None:
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
            own = {name: float(np.mean([terms[name] for terms in recent])) for name in recent[-1]}
            figures = hooks.probe() if training.step in probes else {}
            training.curve.append({"step": float(training.step), **hooks.mean(own), **figures})
            recent = []
            hooks.point()
        if training.step % options.checkpoint_every == 0 or last:
            hooks.checkpoint()
