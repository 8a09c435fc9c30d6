"""What a frame's steps make small, as Levenberg and Marquardt's method needs it: residuals, and how a step changes them.

F frames, N residuals, S values of a step: E of the expression's code, and six of the pose.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Term:
    """Some residuals of one kind.

    sum of cost r^2 / (1 + r^2 / clamp^2)        Geman and McClure: beyond the clamp a residual loses its pull

    A residual that a step may lose, such as a ray's that misses the head, costs what a large one does: to lose it is no gain.
    """

    residuals: Tensor  # (F, N)
    jacobian: Tensor  # (F, N, S)
    cost: Tensor  # (F, N)
    clamp: float = math.inf
    lost: Tensor | None = None  # (F,) the costs of what is lost

    def energy(self) -> Tensor:
        """(F,)"""
        squares = self.residuals.square()
        found = (self.cost * squares / (1 + squares / self.clamp**2)).sum(1)
        return found if self.lost is None else found + self.clamp**2 * self.lost

    def normal_equations(self) -> tuple[Tensor, Tensor]:
        """Half the energy's reweighted curvature (F, S, S), and half its slope (F, S)."""
        w = self.cost * (1 + (self.residuals / self.clamp).square()).reciprocal().square()
        weighted = w[..., None] * self.jacobian
        return weighted.mT @ self.jacobian, (weighted.mT @ self.residuals[..., None])[..., 0]

    def chosen(self, which: Tensor, other: Term) -> Term:
        """This one's frames where `which` (F,) holds, and the other's elsewhere."""
        return replace(
            self,
            residuals=torch.where(which[:, None], self.residuals, other.residuals),
            jacobian=torch.where(which[:, None, None], self.jacobian, other.jacobian),
            cost=torch.where(which[:, None], self.cost, other.cost),
            lost=None if self.lost is None or other.lost is None else torch.where(which, self.lost, other.lost),
        )

    def wider(self, width: float) -> Term:
        """With a clamp so many times as wide."""
        return replace(self, clamp=width * self.clamp)


@dataclass(frozen=True)
class Terms:
    """All of them, and what a long code costs: `expression` for its squared length."""

    parts: tuple[Term, ...]
    z: Tensor  # (F, E)
    expression: float

    def energy(self) -> Tensor:
        """(F,)"""
        return sum((part.energy() for part in self.parts), self.expression * self.z.square().sum(1))

    def normal_equations(self) -> tuple[Tensor, Tensor]:
        """Half the energy's reweighted curvature (F, S, S), and half its slope (F, S)."""
        own = [part.normal_equations() for part in self.parts]
        H, b = torch.stack([H for H, _ in own]).sum(0), torch.stack([b for _, b in own]).sum(0)
        size = self.z.shape[1]
        H[:, range(size), range(size)] += self.expression
        b[:, :size] += self.expression * self.z
        return H, b

    def chosen(self, which: Tensor, other: Terms) -> Terms:
        parts = tuple(part.chosen(which, its) for part, its in zip(self.parts, other.parts, strict=True))
        return replace(self, parts=parts, z=torch.where(which[:, None], self.z, other.z))

    def wider(self, width: float) -> Terms:
        return replace(self, parts=tuple(part.wider(width) for part in self.parts))


def mean_of(residuals: Tensor, cost: float) -> Tensor:
    """Costs (F, N), all alike, that add up to `cost` in each frame."""
    return torch.full_like(residuals, cost / max(1, residuals.shape[1]))


def damped_step(H: Tensor, b: Tensor, damping: Tensor) -> Tensor:
    """Levenberg-Marquardt's step (F, S), damping (F,)."""
    diagonal = H.diagonal(dim1=1, dim2=2)
    least = 1e-9 * diagonal.amax(1, keepdim=True).clamp_min(1e-12)  # what nothing tells of stays where it is
    damped = H + torch.diag_embed(damping[:, None] * diagonal + least)
    factor, failed = torch.linalg.cholesky_ex(damped)
    step = -torch.cholesky_solve(b[..., None], factor)[..., 0]
    return torch.where((failed > 0)[:, None], torch.zeros_like(step), step)


def joined(parts: Sequence[Terms]) -> Terms:
    """Frames after frames."""
    first = parts[0]
    together = [
        Term(
            torch.cat([part.residuals for part in own]),
            torch.cat([part.jacobian for part in own]),
            torch.cat([part.cost for part in own]),
            own[0].clamp,
            None if own[0].lost is None else torch.cat([part.lost for part in own if part.lost is not None]),
        )
        for own in zip(*(part.parts for part in parts), strict=True)
    ]
    return replace(first, parts=tuple(together), z=torch.cat([part.z for part in parts]))
