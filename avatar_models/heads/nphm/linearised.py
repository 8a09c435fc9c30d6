"""Signed distances of observed points and how they change with the expression and the head's pose: what Gauss-Newton needs.

A distance is one number, so one pass backwards through both fields gives a point's whole row of the Jacobian: each point has an
expression of its own there. The pose's part follows from the gradient in closed form.
F frames, N points, E values of an expression's code, D of an identity's. Metres and radians.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from avatar_models.heads.nphm.model import UNITS, Nphm

POSE = 6
"""Values of a pose's step: a turn and a move."""


@dataclass(frozen=True)
class Linearised:
    """Distances, and what a step (F, E + 6) of expression and pose adds to them."""

    sdf: Tensor  # (F, N)
    jacobian: Tensor  # (F, N, E + 6)

    def chosen(self, which: Tensor, other: Linearised) -> Linearised:
        """These where `which` (F,) holds, and the other's elsewhere."""
        return Linearised(
            torch.where(which[:, None], self.sdf, other.sdf),
            torch.where(which[:, None, None], self.jacobian, other.jacobian),
        )  # fmt: skip


def linearised(model: Nphm, geometry: Tensor, expression: Tensor, points: Tensor) -> Linearised:
    """Of points (F, N, 3) in the heads' frames, one identity (1, D), and expressions (F, E)."""
    frames, count = points.shape[:2]
    geometry = geometry.detach()
    compressed = model.deformation.compressed(geometry, model.canonical.anchors(geometry)).detach()
    with torch.enable_grad():
        x = points.detach().reshape(-1, 3).requires_grad_()
        z = expression.detach().repeat_interleave(count, 0).requires_grad_()
        places = model.deformation.of_identity(UNITS * x[:, None], compressed.expand(len(x), -1), z)
    sdf, gradient = model.canonical.sdf_and_gradient(places.transpose(0, 1), geometry)
    g, of_expression = torch.autograd.grad(places, (x, z), gradient.transpose(0, 1) / UNITS)
    turn = torch.linalg.cross(g, x.detach())
    jacobian = torch.cat([of_expression, turn, -g], 1)
    return Linearised(sdf.view(frames, count) / UNITS, jacobian.view(frames, count, -1))
