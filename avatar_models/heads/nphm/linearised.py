"""Signed distances of observed points, how far marks lie from their places at rest, and how both change with the expression and
the head's pose: what Gauss-Newton needs.

A distance is one number, so one pass backwards through both fields gives a point's whole row of the Jacobian: each point has an
expression of its own there. The pose's part follows from the gradient in closed form. A mark's place at rest is three numbers,
so it takes three passes, through the deformation alone.
F frames, N points, L marks, E values of an expression's code, D of an identity's. Metres and radians.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from avatar_models.heads.nphm.model import UNITS, Nphm
from avatar_models.heads.nphm.shared_identity import States

POSE = 6
"""Values of a pose's step: a turn and a move."""


@dataclass(frozen=True)
class Observed:
    """What is seen of F frames, in the world."""

    points: Tensor  # (F, N, 3) of the surface
    marks: Tensor  # (F, L, 3) places on it that are known again in every frame, such as a detector's landmarks
    at_rest: Tensor  # (L, 3) where the marks are on the head at rest

    def __getitem__(self, frames: Tensor) -> Observed:
        return Observed(self.points[frames], self.marks[frames], self.at_rest)

    @classmethod
    def of_points(cls, points: Tensor) -> Observed:
        """Without any marks."""
        return cls(points, points.new_zeros(len(points), 0, 3), points.new_zeros(0, 3))


@dataclass(frozen=True)
class Linearised:
    """Distances and marks' offsets, and what a step (F, E + 6) of expression and pose adds to them."""

    sdf: Tensor  # (F, N)
    jacobian: Tensor  # (F, N, E + 6)
    offsets: Tensor  # (F, 3 L) of the marks, brought back to rest, from their places there
    offsets_jacobian: Tensor  # (F, 3 L, E + 6)

    def chosen(self, which: Tensor, other: Linearised) -> Linearised:
        """These where `which` (F,) holds, and the other's elsewhere."""
        return Linearised(
            torch.where(which[:, None], self.sdf, other.sdf),
            torch.where(which[:, None, None], self.jacobian, other.jacobian),
            torch.where(which[:, None], self.offsets, other.offsets),
            torch.where(which[:, None, None], self.offsets_jacobian, other.offsets_jacobian),
        )


def linearised(model: Nphm, geometry: Tensor, states: States, observed: Observed) -> Linearised:
    """Of one identity (1, D)."""
    points, marks = states.poses.to_head(observed.points), states.poses.to_head(observed.marks)
    return Linearised(
        *linearised_points(model, geometry, states.expression, points),
        *linearised_marks(model, geometry, states.expression, marks, observed.at_rest),
    )


def linearised_points(model: Nphm, geometry: Tensor, expression: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Distances (F, N) of points (F, N, 3) in the heads' frames, and their Jacobian: expressions (F, E)."""
    frames, count = points.shape[:2]
    x, z, places = _brought_to_rest(model, geometry, expression, points)
    sdf, gradient = model.canonical.sdf_and_gradient(places.transpose(0, 1), geometry.detach())
    rows = _rows(x, z, places, gradient.transpose(0, 1) / UNITS)
    return sdf.view(frames, count) / UNITS, rows.view(frames, count, -1)


def linearised_marks(
    model: Nphm, geometry: Tensor, expression: Tensor, marks: Tensor, at_rest: Tensor
) -> tuple[Tensor, Tensor]:
    """Offsets (F, 3 L) of marks (F, L, 3) in the heads' frames from their places (L, 3) at rest, and their Jacobian."""
    frames, count = marks.shape[:2]
    x, z, places = _brought_to_rest(model, geometry, expression, marks)
    along = torch.eye(places.shape[2]).to(marks)[:3] / UNITS
    rows = torch.stack([_rows(x, z, places, axis.expand_as(places)) for axis in along], 1)
    offsets = places.detach()[:, 0, :3].reshape(frames, count, 3) / UNITS - at_rest
    return offsets.flatten(1), rows.reshape(frames, 3 * count, rows.shape[2])


def _brought_to_rest(model: Nphm, geometry: Tensor, expression: Tensor, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Points (F N, 3), an expression for each, and where they are at rest (F N, 1, 3 + H), in the fields' units."""
    compressed = model.deformation.compressed(geometry.detach(), model.canonical.anchors(geometry.detach())).detach()
    with torch.enable_grad():
        x = points.detach().reshape(-1, 3).requires_grad_()
        z = expression.detach().repeat_interleave(points.shape[1], 0).requires_grad_()
        places = model.deformation.of_identity(UNITS * x[:, None], compressed.expand(len(x), -1), z)
    return x, z, places


def _rows(x: Tensor, z: Tensor, places: Tensor, gradient: Tensor) -> Tensor:
    """What a step of expression and pose adds to each point's number, whose gradient by its place at rest is given."""
    g, of_expression = torch.autograd.grad(places, (x, z), gradient, retain_graph=True)
    turn = torch.linalg.cross(g, x.detach())
    return torch.cat([of_expression, turn, -g], 1)
