"""Signed distances of observed points, how far marks lie from their places at rest, and how both change with the expression and
the head's pose: what Gauss-Newton needs.

A distance is one number, so one pass backwards through both fields gives a point's whole row of the Jacobian: each point has an
expression of its own there. The pose's part follows from the gradient in closed form. A mark's place at rest is three numbers,
so it takes three passes, through the deformation alone.
F frames, N points, L marks, E values of an expression's code, D of an identity's. Metres and radians.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    geometry = geometry.detach()
    compressed = model.deformation.compressed(geometry, model.canonical.anchors(geometry)).detach()
    points, marks = (
        _brought_to_rest(model, compressed, states.expression, states.poses.to_head(some))
        for some in (observed.points, observed.marks)
    )
    return Linearised(*_distances(model, geometry, observed.points.shape[:2], *points), *_offsets(observed, *marks))


def _distances(
    model: Nphm, geometry: Tensor, shape: Sequence[int], x: Tensor, z: Tensor, places: Tensor
) -> tuple[Tensor, Tensor]:
    """Of points brought to rest: distances (F, N), the shape, and their Jacobian."""
    sdf, gradient = model.canonical.sdf_and_gradient(places.transpose(0, 1), geometry)
    rows = _rows(x, z, places, gradient.transpose(0, 1) / UNITS)
    return sdf.view(*shape) / UNITS, rows.view(*shape, -1)


def _offsets(observed: Observed, x: Tensor, z: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """Of marks brought to rest: offsets (F, 3 L) from where they are there, and their Jacobian."""
    frames, count = observed.marks.shape[:2]
    along = torch.eye(places.shape[2]).to(places)[:3] / UNITS
    rows = torch.stack([_rows(x, z, places, axis.expand_as(places)) for axis in along], 1)
    offsets = places.detach()[:, 0, :3].reshape(frames, count, 3) / UNITS - observed.at_rest
    return offsets.flatten(1), rows.reshape(frames, 3 * count, rows.shape[2])


def _brought_to_rest(model: Nphm, compressed: Tensor, expression: Tensor, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Points (F N, 3), an expression for each, and where they are at rest (F N, 1, 3 + H), in the fields' units.

    Of points (F, N, 3) in the heads' frames, expressions (F, E), and what the deformation learns of the identity.
    """
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
