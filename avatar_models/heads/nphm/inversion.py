"""Where points at rest go when the head is posed: the backward deformation solved for the point it starts from.

Newton's method on each point alone, with steps that are halved where they do not help, and gradients by the implicit function
theorem: at the solution  B(x, z) = x_rest, so  dx = J^-1 (dx_rest - dB(x, .)),  J = dB/dx. MonoNPHM's landmarks and NPGA's
distillation need it. B people, N points. Metres.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from avatar_models.heads.nphm.model import Codes, Nphm

HALVINGS = 6
"""A step that makes a point worse is halved so often before the point is left where it was."""


@dataclass(frozen=True)
class Posed:
    """Where points at rest came to lie."""

    points: Tensor  # (B, N, 3); gradients of codes, weights and points at rest flow through them
    residual: Tensor  # (B, N) how far the deformation brings them back beside the point at rest, metres

    def converged(self, tolerance: float = 1e-5) -> Tensor:
        """Which points (B, N) are solved within so many metres. No point may be brought back to a place."""
        return self.residual < tolerance


def posed(model: Nphm, at_rest: Tensor, codes: Codes, steps: int = 8, tolerance: float = 1e-7) -> Posed:
    """Posed places of points (B, N, 3) at rest, found from where they are; those within `tolerance` metres are not moved.

    Gradients are those of first order: a gradient of them would take the deformation's Jacobian for a constant.
    """
    with torch.no_grad():
        x = solve(model, at_rest, codes, steps, tolerance)
    back, J = _jacobian(model, x, codes)
    missing = at_rest - back
    residual = missing.detach().norm(dim=2)
    if not torch.is_grad_enabled():
        return Posed(x, residual)
    # One more step of Newton's, its matrix taken as given: its value is the solution, and its gradient that of the theorem.
    step = _solved(J.detach(), missing)
    return Posed(x + step - step.detach(), residual)


def solve(model: Nphm, at_rest: Tensor, codes: Codes, steps: int, tolerance: float) -> Tensor:
    """The solution (B, N, 3) without gradients."""
    x = at_rest.detach().clone()
    back, J = _jacobian(model, x, codes)
    error = (at_rest - back).norm(dim=2)
    for _ in range(steps):
        if not bool((error > tolerance).any()):
            break
        step = _solved(J, at_rest - back)
        open_ = error > tolerance
        for _ in range(HALVINGS):
            tried = torch.where(open_[..., None], x + step, x)
            found = (model.at_rest(tried, codes)[..., :3] - at_rest).norm(dim=2)
            better = found < error
            x = torch.where((open_ & better)[..., None], tried, x)
            open_ = open_ & ~better
            if not bool(open_.any()):
                break
            step = step / 2
        back, J = _jacobian(model, x, codes)
        error = (at_rest - back).norm(dim=2)
    return x


def _jacobian(model: Nphm, x: Tensor, codes: Codes) -> tuple[Tensor, Tensor]:
    """Points (B, N, 3) brought back to rest, and how they change with x: (B, N, 3, 3), without a gradient of its own.

    Where gradients are recorded, those of the points brought back are of the codes and weights alone.
    """
    recorded = torch.is_grad_enabled()
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        back = model.at_rest(x, codes)[..., :3]
        rows = [torch.autograd.grad(back[..., k].sum(), x, retain_graph=True)[0] for k in range(3)]
    return back if recorded else back.detach(), torch.stack(rows, 2)


def _solved(J: Tensor, right: Tensor) -> Tensor:
    """J^-1 right of (B, N, 3, 3) and (B, N, 3), by Cramer's rule; a matrix without an inverse gives no step."""
    a, b, c = J.unbind(3)
    det = (a * torch.linalg.cross(b, c)).sum(2)
    safe = torch.where(det.abs() < 1e-6, torch.full_like(det, torch.inf), det)
    rows = torch.stack([torch.linalg.cross(b, c), torch.linalg.cross(c, a), torch.linalg.cross(a, b)], 2)
    return (rows @ right[..., None])[..., 0] / safe[..., None]
