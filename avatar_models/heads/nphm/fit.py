"""A neural head that fits points of a surface: whose head it is, and each frame's expression.

The deformation goes from posed points to the head at rest, so observed points are asked for their distance as they are.
F frames, N points, D values of an identity's code, E of an expression's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from avatar_models.heads.nphm.losses import asymmetry
from avatar_models.heads.nphm.model import UNITS, Codes, Nphm

CLAMPS = ((0.0, 0.1), (0.25, 0.05), (0.5, 0.0075))
"""From these shares of the steps on, a distance counts no more than so many units: outliers lose their pull (NPHM)."""
FINAL_RATE = 0.05


@dataclass(frozen=True)
class FitOptions:
    steps: int = 400
    rate: float = 0.02
    points: int = 1000  # of each frame, drawn anew at each step
    surface: float = 2.0
    normals: float = 0.1
    identity: float = 0.01
    expression: float = 0.01
    symmetry: float = 0.1


def fit(model: Nphm, points: Tensor, normals: Tensor | None, options: FitOptions, seed: int = 0) -> Codes:
    """Codes of one person in F frames (identity (1, D), expressions (F, E)) for points (F, N, 3) in metres in the head's frame,
    with normals (F, N, 3) where they are known."""
    start = model.zero_codes(1)
    geometry = start.geometry.clone().requires_grad_()
    expression = start.expression.repeat(len(points), 1).requires_grad_()
    optimizer = torch.optim.Adam([geometry, expression], lr=options.rate)
    random = torch.Generator().manual_seed(seed)
    for step in range(options.steps):
        done = step / options.steps
        for group in optimizer.param_groups:
            group["lr"] = options.rate * (1 - (1 - FINAL_RATE) * done)
        chosen = torch.randint(points.shape[1], (len(points), min(options.points, points.shape[1])), generator=random)
        chosen = chosen.to(points.device)
        seen = points.gather(1, chosen[..., None].expand(-1, -1, 3))
        wanted = None if normals is None else normals.gather(1, chosen[..., None].expand(-1, -1, 3))
        loss = objective(model, geometry, expression, seen, wanted, clamp_at(done), options)
        geometry.grad, expression.grad = torch.autograd.grad(loss, [geometry, expression])
        optimizer.step()
    return Codes(geometry.detach(), start.appearance, expression.detach())


def clamp_at(done: float) -> float:
    """How much a distance counts at most, in units, when a share of the steps is done."""
    return next(clamp for since, clamp in reversed(CLAMPS) if done >= since)


def objective(
    model: Nphm, geometry: Tensor, expression: Tensor, seen: Tensor, normals: Tensor | None, clamp: float, options: FitOptions
) -> Tensor:
    """What a fit makes small: how far points (F, N, 3) in the head's frame are from an identity (1, D) with expressions (F, E),
    and how unlikely the codes are."""
    same = geometry.expand(len(seen), -1)
    codes = Codes(same, torch.zeros_like(same), expression)
    if normals is None:
        sdf, misfit = model.sdf(seen, codes), seen.new_zeros(())
    else:
        sdf, gradient = model.sdf_and_gradient(seen, codes)
        misfit = (1 - (normalize(gradient, dim=2) * normals).sum(2)).mean()
    return (
        options.surface * (UNITS * sdf).abs().clamp_max(clamp).mean()
        + options.normals * misfit
        + options.identity * geometry.square().sum()
        + options.expression * expression.square().sum(1).mean()
        + options.symmetry * asymmetry(model, geometry).sum()
    )


def distances(sdf: Callable[[Tensor], Tensor], points: Tensor, steps: int = 3) -> Tensor:
    """How far points (N, 3) are from the zero level of distances that `sdf` gives for (N, 3), which Newton's steps along its
    gradient find."""
    x = points.clone()
    for _ in range(steps):
        x = x.detach().requires_grad_()
        value = sdf(x)
        (gradient,) = torch.autograd.grad(value.sum(), x)
        x = x.detach() - value.detach()[:, None] * gradient / gradient.square().sum(1, keepdim=True).clamp_min(1e-6)
    return (x - points).norm(dim=1)
