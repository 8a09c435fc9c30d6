"""A forward deformation learned from the backward one by going there and back (NPGA, section 3.2).

B heads, N points, P people, E values of an expression's code.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from avatar_models.heads.nphm.forward import ForwardField, TriPlanes, total_variation
from avatar_models.heads.nphm.model import UNITS, Codes, Nphm


@dataclass(frozen=True)
class Weights:
    """Of the terms beside the cycle's. Lengths are the head's units, a quarter of a metre."""

    offset: float = 1e-4
    variation: float = 1e-2


def losses(
    model: Nphm, field: ForwardField, planes: TriPlanes, points: Tensor, people: Tensor, codes: Codes, weights: Weights
) -> dict[str, Tensor]:
    """All terms as they stand in the sum, and `loss`, their sum.

    Points (B, N, 3) at rest on heads of people (B,), whose codes are of B heads; the model is not learned.
    """
    offsets = field(points, planes(points, people), codes.expression)
    back = model.at_rest(points + offsets, codes)[..., :3]
    terms = {
        "cycle": (UNITS * (back - points)).square().sum(2).mean(),
        "offset": weights.offset * (UNITS * offsets).square().sum(2).mean(),
        "variation": weights.variation * total_variation(planes.planes[people]),
    }
    return {"loss": torch.stack(list(terms.values())).sum(), **terms}


@torch.no_grad()
def cycle_error(model: Nphm, field: ForwardField, features: Tensor, points: Tensor, codes: Codes) -> Tensor:
    """How far points (B, N, 3) at rest, with features (B, N, f), come back beside themselves: (B, N) metres."""
    back = model.at_rest(points + field(points, features, codes.expression), codes)[..., :3]
    return (back - points).norm(dim=2)


@dataclass(frozen=True)
class FeatureOptions:
    """How a new person's planes are found."""

    steps: int = 300
    points: int = 1000
    learning_rate: float = 2e-2


def fit_planes(
    model: Nphm, field: ForwardField, surface: Tensor, geometry: Tensor, expressions: Tensor, options: FeatureOptions, seed: int
) -> TriPlanes:
    """Planes of one person for a field that is not changed: from points (M, 3) of the person's head at rest, an identity
    (D,) and expressions (T, E) that the person makes."""
    g = torch.Generator().manual_seed(seed)
    planes = TriPlanes(field.sizes, 1).to(surface.device)
    torch.nn.init.zeros_(planes.planes)
    optimizer = torch.optim.Adam(planes.parameters(), options.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.steps)
    own = torch.zeros(1, dtype=torch.int64, device=surface.device)
    for _ in range(options.steps):
        chosen = torch.randint(len(surface), (options.points,), generator=g).to(surface.device)
        which = torch.randint(len(expressions), (1,), generator=g).to(surface.device)
        codes = Codes(geometry[None], torch.zeros_like(geometry)[None], expressions[which])
        optimizer.zero_grad(set_to_none=True)
        loss = losses(model, field, planes, surface[chosen][None], own, codes, Weights())["loss"]
        (planes.planes.grad,) = torch.autograd.grad(loss, planes.planes)  # nothing of the field or the model
        optimizer.step()
        schedule.step()
    return planes
