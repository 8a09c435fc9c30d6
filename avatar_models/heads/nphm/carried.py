"""Points that are known on another head, such as a detector's landmarks, carried by a tracked neural head.

F frames, L points. Metres.
"""

from __future__ import annotations

import torch
from torch import Tensor

from avatar_models.heads.nphm.inversion import posed
from avatar_models.heads.nphm.model import Codes, Nphm
from avatar_models.heads.nphm.poses import Poses

TOGETHER = 64  # frames


@torch.no_grad()
def places_at_rest(model: Nphm, codes: Codes, poses: Poses, points: Tensor) -> Tensor:
    """Where points (F, L, 3) of the world lie on the head at rest, (L, 3): the medians over the frames.

    Codes have one identity for all frames, and an expression of each.
    """
    found = []
    for frames in torch.arange(len(poses)).split(TOGETHER):
        found.append(model.at_rest(poses[frames].to_head(points[frames]), _of(codes, frames))[..., :3])
    return torch.cat(found).median(0).values


@torch.no_grad()
def carried(model: Nphm, codes: Codes, poses: Poses, at_rest: Tensor) -> Tensor:
    """Where points (L, 3) at rest are in the world in each frame, (F, L, 3)."""
    found = []
    for frames in torch.arange(len(poses)).split(TOGETHER):
        own = _of(codes, frames)
        found.append(poses[frames].to_world(posed(model, at_rest.expand(len(frames), -1, -1), own).points))
    return torch.cat(found)


def _of(codes: Codes, frames: Tensor) -> Codes:
    count = len(frames)
    return Codes(codes.geometry.expand(count, -1), codes.appearance.expand(count, -1), codes.expression[frames])
