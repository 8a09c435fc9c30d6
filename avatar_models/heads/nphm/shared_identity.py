"""Whose head a sequence shows: one identity of a few of its frames together, with their expressions and poses.

NPHM's fitting to point clouds (Giebenhain et al., CVPR 2023): Adam from zeros, distances clamped ever closer. The backward
deformation asks observed points as they are, and here the head moves. F frames, D values of an identity's code, E of an
expression's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from avatar_models.heads.nphm.clouds import Clouds
from avatar_models.heads.nphm.fit import FINAL_RATE, FitOptions, clamp_at, objective
from avatar_models.heads.nphm.model import Nphm
from avatar_models.heads.nphm.poses import Poses


@dataclass(frozen=True)
class IdentityOptions:
    fit: FitOptions = field(default_factory=lambda: FitOptions(steps=300, points=300))
    turning: float = 5e-3  # Adam's rate for rotations, radians
    moving: float = 1e-3  # and for positions, metres


@dataclass(frozen=True)
class States:
    """What changes from frame to frame."""

    expression: Tensor  # (F, E)
    poses: Poses

    def __getitem__(self, frames: Tensor | slice) -> States:
        return States(self.expression[frames], self.poses[frames])

    @classmethod
    def joined(cls, parts: Sequence[States]) -> States:
        """Frames after frames."""
        poses = Poses(torch.cat([part.poses.rotation for part in parts]), torch.cat([part.poses.translation for part in parts]))
        return cls(torch.cat([part.expression for part in parts]), poses)

    def stepped(self, step: Tensor) -> States:
        """Changed by (F, E + 6): expression, then pose."""
        width = self.expression.shape[1]
        return States(self.expression + step[:, :width], self.poses.stepped(step[:, width:]))


def find_identity(
    model: Nphm, clouds: Clouds, frames: Sequence[int], start: Poses, options: IdentityOptions, seed: int = 0
) -> tuple[Tensor, States]:
    """The identity (1, D) that these frames of the clouds show, and their states; `start` has the frames' rough poses."""
    zeros = model.zero_codes(len(frames))
    geometry = zeros.geometry[:1].clone().requires_grad_()
    expression = zeros.expression.clone().requires_grad_()
    turn, move = (torch.zeros_like(start.translation).requires_grad_() for _ in range(2))
    rates = (options.fit.rate, options.fit.rate, options.turning, options.moving)
    parts = zip((geometry, expression, turn, move), rates, strict=True)
    optimizer = torch.optim.Adam([{"params": [part], "lr": rate} for part, rate in parts])
    random = torch.Generator().manual_seed(seed)
    for step in range(options.fit.steps):
        done = step / options.fit.steps
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * (1 - (1 - FINAL_RATE) * done)
        points, normals = clouds.draw(frames, options.fit.points, random)
        poses = start.stepped(torch.cat([turn, move], 1))
        in_head = None if normals is None else normals @ poses.rotation
        loss = objective(model, geometry, expression, poses.to_head(points), in_head, clamp_at(done), options.fit)
        found = torch.autograd.grad(loss, (geometry, expression, turn, move))
        for part, gradient in zip((geometry, expression, turn, move), found, strict=True):
            part.grad = gradient
        optimizer.step()
    with torch.no_grad():
        poses = start.stepped(torch.cat([turn, move], 1))
    return geometry.detach(), States(expression.detach(), poses)
