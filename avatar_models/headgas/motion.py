"""How a head's surface moves with a condition, at points on it and near it."""

from __future__ import annotations

import torch
from scipy.spatial import cKDTree
from torch import Tensor

from avatar_models.heads.interface import Head

STEP = 0.1
"""Of a condition value: expressions are linear, and joints (radians) nearly so over what a jaw and eyes do."""

FALL_OFF = 0.015
"""Metres from the surface over which points stop to follow it: hair over a brow does, a bun does not."""

NEIGHBOURS, SAME_PLACE = 4, 1e-3  # vertices that have a say in a point's motion; metres within which they count alike


@torch.no_grad()
def surface_motion(head: Head, identity: Tensor, points: Tensor) -> Tensor:
    """Metres (E, N, 3) by which points (N, 3) of the head at rest move for one unit of each condition value.

    identity (I,); a condition is expression, jaw and eyes (:func:`avatar_models.avatar.track_condition`). The nearest
    vertices' motions are averaged, and fade out with the distance from the surface.
    """
    changes = STEP * torch.eye(head.num_expression + 9)
    at_rest = _vertices(head, identity, torch.zeros(1, len(changes)))[0]
    motion = torch.stack([(_vertices(head, identity, change[None])[0] - at_rest) / STEP for change in changes])  # (E, V, 3)
    distances, nearest = (torch.from_numpy(found) for found in cKDTree(at_rest.numpy()).query(points.numpy(), NEIGHBOURS))
    weights = 1.0 / (distances + SAME_PLACE)
    weights = weights / weights.sum(1, keepdim=True) * torch.exp(-(distances[:, :1] / FALL_OFF).square())
    return torch.einsum("envd,nv->end", motion[:, nearest], weights.float())


def _vertices(head: Head, identity: Tensor, condition: Tensor) -> Tensor:
    expression, jaw, eyes = condition.split([head.num_expression, 3, 6], 1)
    return head.vertices(identity[None].float(), expression, torch.zeros(len(condition), 3), jaw, eyes)
