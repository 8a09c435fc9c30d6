"""The forward deformation that NPGA distils from the backward one (NPGA, section 3.2): points at rest to the posed head.

B heads, N points, E values of an expression's code, f features of a point.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import grid_sample

from avatar_models.heads.nphm.model import UNITS

OFFSET_M = 0.01
"""Metres that a point moves where the network says one."""


@dataclass(frozen=True)
class ForwardSizes:
    """Shapes of a forward field and of the planes that its features come from."""

    expression_code: int
    feature_dim: int = 8
    hidden: int = 256
    layers: int = 6
    plane_size: int = 64
    plane_reach: float = 0.25
    """Metres from the head's origin to a plane's edge."""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ForwardSizes:
        return cls(**values)


class ForwardField(nn.Module):
    """F: offsets of points by their place at rest, their features and an expression. No offsets before it is trained."""

    spread: Tensor
    """(E,) standard deviations of the expressions' codes, by which they are divided: a prior's codes are small."""

    def __init__(self, sizes: ForwardSizes, spread: Tensor | None = None) -> None:
        super().__init__()
        self.sizes = sizes
        self.register_buffer("spread", torch.ones(sizes.expression_code) if spread is None else spread.clone())
        self.layers = mlp(3 + sizes.feature_dim + sizes.expression_code, sizes.hidden, sizes.layers, 3)

    def forward(self, points: Tensor, features: Tensor, expression: Tensor) -> Tensor:
        """Offsets (B, N, 3) in metres of points (B, N, 3) at rest with features (B, N, f), by expressions (B, E)."""
        z = (expression / self.spread)[:, None].expand(-1, points.shape[1], -1)
        offsets: Tensor = self.layers(torch.cat([UNITS * points, features, z], 2))
        return OFFSET_M * offsets


def mlp(inputs: int, hidden: int, layers: int, outputs: int) -> nn.Sequential:
    """Layers with ReLU between them, the last of which gives zeros at first."""
    widths = [inputs] + (layers - 1) * [hidden]
    parts: list[nn.Module] = []
    for width in widths[1:]:
        parts += [nn.Linear(widths[len(parts) // 2], width), nn.ReLU()]
    last = nn.Linear(widths[-1], outputs)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(*parts, last)


class TriPlanes(nn.Module):
    """Features of points at rest: for each of P people three planes (x y, x z, y z), whose values are added."""

    def __init__(self, sizes: ForwardSizes, people: int) -> None:
        super().__init__()
        self.sizes = sizes
        side = sizes.plane_size
        self.planes = nn.Parameter(1e-2 * torch.randn(people, 3, sizes.feature_dim, side, side))

    def forward(self, points: Tensor, people: Tensor) -> Tensor:
        """Features (B, N, f) of points (B, N, 3) in metres of people (B,), counted from zero."""
        return sampled(self.planes[people], points, self.sizes.plane_reach)


def sampled(planes: Tensor, points: Tensor, reach: float) -> Tensor:
    """Features (B, N, f) that planes (B, 3, f, s, s) have at points (B, N, 3); beyond the edge those of the edge."""
    x, y, z = (points / reach).unbind(2)
    grid = torch.stack([torch.stack(pair, 2) for pair in ((x, y), (x, z), (y, z))], 1)  # (B, 3, N, 2)
    B, _, f, s, _ = planes.shape
    found = grid_sample(
        planes.reshape(B * 3, f, s, s), grid.reshape(B * 3, 1, -1, 2), padding_mode="border", align_corners=True
    )
    return found.reshape(B, 3, f, -1).sum(1).mT


def total_variation(planes: Tensor) -> Tensor:
    """Mean squared difference of neighbours in planes (P, 3, f, s, s)."""
    return planes.diff(dim=-1).square().mean() + planes.diff(dim=-2).square().mean()
