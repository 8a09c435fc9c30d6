"""Which pairs a step trains on: a function of its number alone.

All frames are targets once in each epoch, in an order of its own; the epochs' samples are one stream.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pipelines.fleet.loop import Place
from pipelines.oneshot.pairs import Frames
from pipelines.schedule import frame_of_step

ALONE = Place()


def pair(sample: int, frames: Frames, seed: int) -> tuple[int, int]:
    """(photo, target) of a place in the stream: a target of its epoch, and a random other frame of that clip."""
    target = frame_of_step(sample, len(frames), seed)
    return frames.beside(target, np.random.default_rng((seed, sample)).random()), target


def pairs_of(steps: range, batch: int, frames: Frames, seed: int, place: Place = ALONE) -> Iterator[list[tuple[int, int]]]:
    """The pairs of each of some steps, for one process."""
    for step in steps:
        yield [pair(sample, frames, seed) for sample in place.samples(step, batch)]
