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
from avatar_models.heads.nphm.terms import Term, Terms, mean_of

POSE = 6
"""Values of a pose's step: a turn and a move."""


@dataclass(frozen=True)
class FrameOptions:
    """Raises ValueError for options that solve nothing."""

    points: int = 500  # of each frame
    clamp: float = 0.004  # a distance beyond it loses its pull, metres
    widths: tuple[float, ...] = (3.125, 1.0, 1.0, 1.0)  # one for each step: so many clamps
    expression: float = 2e-6  # square metres of mean squared distance that a code's squared length costs
    marks: float = 1.0  # what a mark's squared offset costs beside a point's squared distance, means of both
    damping: float = 1e-3  # to start with: the share that is added to the diagonal

    def __post_init__(self) -> None:
        if self.points < 1 or self.clamp <= 0 or not self.widths or min(self.widths) <= 0:
            raise ValueError(
                f"points = {self.points}, clamp = {self.clamp} and widths = {self.widths}: there has to be a point and a step, "
                "and clamps are above zero"
            )


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


def linearised(model: Nphm, geometry: Tensor, states: States, observed: Observed, options: FrameOptions) -> Terms:
    """The points' distances and the marks' offsets, of one identity (1, D)."""
    geometry = geometry.detach()
    compressed = compressed_of(model, geometry)
    points, marks = (
        brought_to_rest(model, compressed, states.expression, states.poses.to_head(some))
        for some in (observed.points, observed.marks)
    )
    sdf, of_sdf = distances_of(model, geometry, observed.points.shape[:2], *points)
    offsets, of_offsets = offsets_of(observed, *marks)
    # A mark's offset is three numbers.
    parts = (
        Term(sdf, of_sdf, mean_of(sdf, 1.0), options.clamp), Term(offsets, of_offsets, mean_of(offsets, 3 * options.marks))
    )  # fmt: skip
    return Terms(parts, states.expression, options.expression)


def compressed_of(model: Nphm, geometry: Tensor) -> Tensor:
    """What the deformation learns of identities (B, D): (B, compressed), without a gradient."""
    return model.deformation.compressed(geometry, model.canonical.anchors(geometry)).detach()


def distances_of(
    model: Nphm, geometry: Tensor, shape: Sequence[int], x: Tensor, z: Tensor, places: Tensor
) -> tuple[Tensor, Tensor]:
    """Of points brought to rest: distances (F, N), the shape, and their Jacobian."""
    sdf, gradient = model.canonical.sdf_and_gradient(places.transpose(0, 1), geometry)
    rows = rows_of(x, z, places, gradient.transpose(0, 1) / UNITS)
    return sdf.view(*shape) / UNITS, rows.view(*shape, -1)


def offsets_of(observed: Observed, x: Tensor, z: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """Of marks brought to rest: offsets (F, 3 L) from where they are there, and their Jacobian."""
    frames, count = observed.marks.shape[:2]
    along = torch.eye(places.shape[2]).to(places)[:3] / UNITS
    rows = torch.stack([rows_of(x, z, places, axis.expand_as(places)) for axis in along], 1)
    offsets = places.detach()[:, 0, :3].reshape(frames, count, 3) / UNITS - observed.at_rest
    return offsets.flatten(1), rows.reshape(frames, 3 * count, rows.shape[2])


def brought_to_rest(model: Nphm, compressed: Tensor, expression: Tensor, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Points (F N, 3), an expression for each, and where they are at rest (F N, 1, 3 + H), in the fields' units.

    Of points (F, N, 3) in the heads' frames, expressions (F, E), and what the deformation learns of the identity.
    """
    with torch.enable_grad():
        x = points.detach().reshape(-1, 3).requires_grad_()
        z = expression.detach().repeat_interleave(points.shape[1], 0).requires_grad_()
        places = model.deformation.of_identity(UNITS * x[:, None], compressed.expand(len(x), -1), z)
    return x, z, places


def rows_of(x: Tensor, z: Tensor, places: Tensor, gradient: Tensor) -> Tensor:
    """What a step of expression and pose adds to each point's number, whose gradient by its place at rest is given."""
    g, of_expression = torch.autograd.grad(places, (x, z), gradient, retain_graph=True)
    turn = torch.linalg.cross(g, x.detach())
    return torch.cat([of_expression, turn, -g], 1)
