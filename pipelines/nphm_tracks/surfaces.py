"""What a clip's fit of a linear head says of its surface, frame by frame: clouds of points for the neural head.

F frames, N points, E expression coefficients. Metres, in the linear head's frame, in which the head does not move.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from avatar_models.heads.interface import Head
from avatar_models.heads.nphm.clouds import Clouds
from pipelines.prior.scans import Expressions, LinearModel, LinearScans
from pipelines.subject import ClipTracks

POINTS = 1500
"""Of each frame, three of four on the front of the face."""


@dataclass(frozen=True)
class Performance:
    """What one person does, seen by one or more cameras."""

    identity: Tensor  # (I,)
    expression: Tensor  # (F, E)
    jaw: Tensor  # (F, 3) radians
    eyes: Tensor  # (F, 6) radians

    @classmethod
    def of(cls, tracks: ClipTracks, identity: Tensor) -> Performance:
        conditions = torch.from_numpy(tracks.conditions)
        return cls(identity, *conditions.split([conditions.shape[1] - 9, 3, 6], 1))

    def __len__(self) -> int:
        return len(self.jaw)

    @property
    def key(self) -> bytes:
        """Equal for cameras that saw the same."""
        parts = (self.identity, self.expression, self.jaw, self.eyes)
        return b"".join(np.ascontiguousarray(part.numpy()).tobytes() for part in parts)


def clouds_of(head: Head, performance: Performance, seed: int) -> tuple[list[Tensor], list[Tensor]]:
    """Points (N, 3) on the skin in each frame, and their normals."""
    skin = head.masks["skin"]
    model = LinearModel(head.rig, head.faces, skin, head.masks.get("face", skin), torch.ones(head.num_expression))
    expressions = Expressions(performance.expression, performance.jaw)
    scans = LinearScans(model, performance.identity[None], expressions, torch.zeros(0, dtype=torch.int64))
    found = [scans.on_surface(0, frame, POINTS, np.random.default_rng((seed, frame))) for frame in range(len(performance))]
    return [points for points, _, _ in found], [normals for _, normals, _ in found]


def joined(clouds: list[tuple[list[Tensor], list[Tensor]]]) -> Clouds:
    """Performances one after the other."""
    points, normals = zip(*clouds, strict=True)
    return Clouds([one for some in points for one in some], [one for some in normals for one in some])


def landmarks_of(head: Head, performance: Performance) -> Tensor:
    """The detector's points (F, 478, 3) on the linear head's surface."""
    neck = torch.zeros_like(performance.jaw)
    found = []
    for part in torch.arange(len(performance)).split(64):
        vertices = head.vertices(
            performance.identity[None], performance.expression[part], neck[part], performance.jaw[part], performance.eyes[part]
        )
        found.append(head.landmarks(vertices))
    return torch.cat(found)
