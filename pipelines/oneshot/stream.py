"""Which pairs a step trains on: a function of its number alone, so that a run that was cut, or goes on with fewer workers,
sees what it would have seen.

All frames are targets once in each epoch, in an order of its own. The samples of all epochs are one stream; step t takes the
`batch` samples after t * batch, and of those worker r of W takes every W-th.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pipelines.oneshot.pairs import Frames
from pipelines.schedule import frame_of_step


def samples_of_step(step: int, batch: int, rank: int = 0, world: int = 1) -> range:
    """Places in the stream that a worker takes at a step."""
    return range(step * batch + rank, (step + 1) * batch, world)


def pair(sample: int, frames: Frames, seed: int) -> tuple[int, int]:
    """(photo, target) of a place in the stream: a target of its epoch, and a random other frame of that clip."""
    target = frame_of_step(sample, len(frames), seed)
    return frames.beside(target, np.random.default_rng((seed, sample)).random()), target


def pairs_of(
    steps: range, batch: int, frames: Frames, seed: int, rank: int = 0, world: int = 1
) -> Iterator[list[tuple[int, int]]]:
    """The pairs of each of some steps, for one worker."""
    for step in steps:
        yield [pair(sample, frames, seed) for sample in samples_of_step(step, batch, rank, world)]
