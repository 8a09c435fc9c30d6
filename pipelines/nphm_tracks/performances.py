"""What a subject does in its clips, and who saw it: cameras that were fitted together share the steps of one performance.

F steps of time, E expression coefficients. Metres and radians, in the linear head's frame, in which the head does not move.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor

from avatar_models.heads.interface import Head
from pipelines.preprocess.together import shared_steps
from pipelines.subject import ClipTracks, Tables, clip_tracks, subject_identity


@dataclass(frozen=True)
class Performance:
    """One performance with its clips."""

    identity: Tensor  # (I,)
    expression: Tensor  # (F, E)
    jaw: Tensor  # (F, 3)
    eyes: Tensor  # (F, 6)
    clips: Mapping[str, ClipTracks]
    steps: Mapping[str, NDArray[np.int64]]  # of each clip: which step each of its frames is

    def __len__(self) -> int:
        return len(self.jaw)

    def seen_at(self, step: int) -> list[tuple[str, int]]:
        """Clips that have a frame of a step, and which of their rows it is."""
        found = ((clip, np.flatnonzero(steps == step)) for clip, steps in self.steps.items())
        return [(clip, int(row)) for clip, rows in found for row in rows]

    def vertices(self, head: Head, step: int) -> Tensor:
        """The linear head's surface (V, 3) at a step."""
        own = [self.identity, self.expression[step], torch.zeros(3), self.jaw[step], self.eyes[step]]
        return head.vertices(*(part[None] for part in own))[0]


def performances_of(data: Tables, subject: str) -> list[Performance]:
    """A subject's performances, by their first clip. Only cameras that were fitted together have one identity."""
    together: dict[bytes, list[str]] = defaultdict(list)
    for clip in clips_of(data, subject):
        together[_identity(data, clip).tobytes()].append(clip)
    return [performance_of(data, clips) for clips in together.values()]


def performance_of(data: Tables, clips: Sequence[str]) -> Performance:
    """Of clips that were fitted together; a step has the expression of the first clip that saw it."""
    tracks = {clip: clip_tracks(data.tracks, clip) for clip in clips}
    numbers, _ = shared_steps([one.times for one in tracks.values()])
    steps = dict(zip(clips, numbers, strict=True))
    _, first = np.unique(np.concatenate(numbers), return_index=True)
    conditions = torch.from_numpy(np.concatenate([one.conditions for one in tracks.values()])[first])
    expression, jaw, eyes = conditions.split([conditions.shape[1] - 9, 3, 6], 1)
    return Performance(torch.from_numpy(_identity(data, clips[0])), expression, jaw, eyes, tracks, steps)


def clips_of(data: Tables, subject: str) -> list[str]:
    """A subject's segments that passed, in order."""
    rows = data.segments.filter(pc.and_(pc.equal(data.segments["subject_id"], subject), data.segments["passed"]))
    return sorted(rows["clip_id"].to_pylist())


def _identity(data: Tables, clip: str) -> NDArray[np.float32]:
    return np.array(subject_identity(data, clip)["identity"], np.float32)
