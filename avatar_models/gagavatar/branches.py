"""Features to Gaussians: the expression branch on the head's vertices, and the reconstruction branch of a lifted plane.

B photos, V vertices, S points along a side of a plane, C channels of a colour, D values of an encoded direction.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from avatar_models.gagavatar.photo_colors import VertexColors
from avatar_models.gagavatar.settings import BLACK, RGB, Setting, activated

MAX_SCALE = 0.01
"""Metres."""

OPAQUE = 2.0
"""Before the sigmoid: the first opacity of what the photo shows, and less that of what it hides."""

FREQUENCIES = 4  # of the direction's encoding
DIRECTION_DIM = 3 * (2 * FREQUENCIES + 1)


@dataclass(frozen=True)
class Attributes:
    """What a branch says of N Gaussians for each of B photos, but for where they are."""

    colors: Tensor  # (B, N, C)
    opacities: Tensor  # (B, N)
    scales: Tensor  # (B, N, 3) metres
    quats: Tensor  # (B, N, 4) wxyz


def encoded(direction: Tensor) -> Tensor:
    """Harmonic encoding of directions (B, 3) -> (B, DIRECTION_DIM): sines and cosines of 1, 2, 4, 8 times each, and itself."""
    frequencies = 2.0 ** torch.arange(FREQUENCIES, dtype=direction.dtype, device=direction.device)
    angles = (direction[:, :, None] * frequencies).flatten(1)
    return torch.cat([angles.sin(), angles.cos(), direction], 1)


class ExpressionBranch(nn.Module):
    """Gaussians that sit on the head's vertices and go where an expression moves those (section 3.3)."""

    def __init__(self, inputs: int, hidden: int, head_hidden: int, feature_dim: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Linear(inputs, hidden), nn.ReLU(),
            nn.Linear(hidden, hidden), nn.ReLU(),
            nn.Linear(hidden, hidden), nn.ReLU(),
            nn.Linear(hidden, hidden),
        )  # fmt: skip

        def head(outputs: int) -> nn.Sequential:
            return nn.Sequential(nn.Linear(hidden + DIRECTION_DIM, head_hidden), nn.ReLU(), nn.Linear(head_hidden, outputs))

        self.colors, self.opacities, self.scales, self.quats = head(feature_dim), head(1), head(3), head(4)

    def start_with(self, scale: float) -> None:
        """First scales, a share of the largest."""
        last = self.scales[-1]
        assert isinstance(last, nn.Linear)
        nn.init.constant_(last.bias, before_sigmoid(scale))

    def forward(self, features: Tensor, direction: Tensor, setting: Setting, first: VertexColors | None = None) -> Attributes:
        """features (B, V, inputs), encoded direction (B, D), and what the Gaussians start from: the photo's colours, and
        opaque where the vertex is seen."""
        f = self.trunk(features)
        f = torch.cat([f, direction[:, None].expand(-1, f.shape[1], -1)], 2)
        colors, opacities = self.colors(f), self.opacities(f)[..., 0]
        if first is not None:
            colors = started(colors, first.colors, 2)
            opacities = opacities + OPAQUE * (2 * first.seen - 1)
        return Attributes(
            colors=activated(colors, 2),
            opacities=torch.sigmoid(opacities),
            scales=MAX_SCALE * torch.sigmoid(self.scales(f)),
            quats=setting.vertex_quats(self.quats(f)),
        )


class LiftingBranch(nn.Module):
    """Gaussians of a plane: one for each value of the feature map, lifted off the plane (section 3.2)."""

    def __init__(self, inputs: int, hidden: int, feature_dim: int) -> None:
        super().__init__()
        self.feature_dim = feature_dim
        self.convs = nn.Sequential(
            nn.Conv2d(inputs + DIRECTION_DIM, hidden, 3, padding=1), nn.ReLU(),
            nn.Conv2d(hidden, hidden, 3, padding=1), nn.ReLU(),
            nn.Conv2d(hidden, hidden, 3, padding=1), nn.ReLU(),
            nn.Conv2d(hidden, feature_dim + 1 + 3 + 4 + 1, 1),
        )  # fmt: skip

    def start_with(self, scale: float, lift: float) -> None:
        """First scales, and how far points leave their plane: shares of the largest, before anything is learned."""
        last = self.convs[-1]
        assert isinstance(last, nn.Conv2d) and last.bias is not None
        _, _, scales, _, lifts = last.bias.split([self.feature_dim, 1, 3, 4, 1])
        nn.init.constant_(scales, before_sigmoid(scale))
        nn.init.constant_(lifts, before_sigmoid(lift))

    def forward(
        self, features: Tensor, direction: Tensor, setting: Setting, first_colors: Tensor | None = None
    ) -> tuple[Attributes, Tensor]:
        """Features (B, inputs, S, S), encoded direction (B, D), colours (B, 3, S, S) that the Gaussians' start from ->
        attributes of S^2 Gaussians row by row, and lifts (B, S^2) in [0, 1]."""
        direction = direction[:, :, None, None].expand(-1, -1, *features.shape[2:])
        out = self.convs(torch.cat([features, direction], 1))
        colors, opacities, scales, quats, lifts = out.split([self.feature_dim, 1, 3, 4, 1], 1)
        if first_colors is not None:
            colors = started(colors, first_colors, 1)
        attributes = Attributes(
            colors=_rows(setting.lifted_colors(colors)),
            opacities=_rows(torch.sigmoid(opacities))[..., 0],
            scales=_rows(MAX_SCALE * torch.sigmoid(scales)),
            quats=_rows(normalize(quats, dim=1)),
        )
        return attributes, _rows(torch.sigmoid(lifts))[..., 0]


def before_sigmoid(share: float) -> float:
    return math.log(share / (1 - share))


def started(colors: Tensor, first: Tensor, dim: int) -> Tensor:
    """Colours before activation, of which the first three channels along dim change first ones in [0, 1]."""
    rgb, rest = colors.split([RGB, colors.shape[dim] - RGB], dim)
    return torch.cat([rgb + torch.logit(first, BLACK), rest], dim)


def _rows(maps: Tensor) -> Tensor:
    """(B, C, S, S) -> (B, S^2, C)"""
    return maps.flatten(2).mT
