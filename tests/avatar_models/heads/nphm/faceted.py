"""A neural head that looks like one without training: a plane for each region, blended to a rounded stone."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import normalize

from avatar_models.heads.nphm import Codes, Nphm
from tests.avatar_models.heads.nphm.tiny import TINY, codes

SIZES = replace(TINY, num_anchors=26, num_pairs=10)
RADIUS_M = 0.09


def faceted() -> Nphm:
    """Anchors at 9 to 10 cm. Every region's distance is that to a plane through its anchor, and what the first hyper coordinate
    adds; the deformation is a random network that moves points by millimetres."""
    g = torch.Generator().manual_seed(9)
    directions = normalize(torch.randn(SIZES.num_anchors, 3, generator=g), dim=1)
    for _ in range(40):  # spreads them, in pairs
        directions[1 : 2 * SIZES.num_pairs : 2] = directions[0 : 2 * SIZES.num_pairs : 2] * torch.tensor([-1.0, 1.0, 1.0])
        directions[2 * SIZES.num_pairs :, 0] = 0
        between = directions[:, None] - directions
        push = (between / (between.norm(dim=2, keepdim=True) ** 3 + 1e-3)).sum(1)
        directions = normalize(directions + 0.02 * push, dim=1)
    directions[1 : 2 * SIZES.num_pairs : 2] = directions[0 : 2 * SIZES.num_pairs : 2] * torch.tensor([-1.0, 1.0, 1.0])
    radius = RADIUS_M + 0.01 * torch.rand(SIZES.num_anchors, 1, generator=g)
    radius[1 : 2 * SIZES.num_pairs : 2] = radius[0 : 2 * SIZES.num_pairs : 2]
    torch.manual_seed(0)
    model = Nphm(SIZES, radius * directions).eval()
    planes = normalize(directions + 0.15 * torch.randn(directions.shape, generator=g), dim=1)
    with torch.no_grad():
        geometry = model.canonical.geometry
        for parameter in geometry.parameters():
            parameter.zero_()
        mlp = torch.tensor(SIZES.mlp_of_region[:-1])
        for region in range(SIZES.num_anchors - 1, -1, -1):  # of a pair, the first one's stays
            geometry.of_point[mlp[region], :3, 0] = planes[region]
            geometry.of_point[mlp[region], 3, 0] = 1.0
        for bias in geometry.biases[:1]:
            bias[:, 0] = 3.0  # where a softplus is a straight line
        for W in geometry.weights:
            W[:, 0, 0] = 1.0
        geometry.last[:, 0, 0] = 1.0
        geometry.last_bias[:, 0] = -3.0
        for parameter in model.canonical.anchor_offsets.parameters():
            parameter.zero_()
        for layer in model.deformation.layers:
            layer.weight *= 2
        model.deformation.layers[-1].weight *= 0.3
        model.deformation.layers[-1].bias.zero_()
    return model


def stone_codes(count: int) -> Codes:
    return codes(count, SIZES)


def on_surface(model: Nphm, geometry: Tensor, expression: Tensor, count: int) -> Tensor:
    """Points (F, count, 3) of the zero level, all around, by steps along the rays from the middle."""
    same = geometry.expand(len(expression), -1)
    directions = normalize(torch.randn(len(expression), count, 3, generator=torch.Generator().manual_seed(5)), dim=2)
    far = torch.full((len(expression), count, 1), RADIUS_M)
    with torch.no_grad():
        for _ in range(30):
            far = far - 0.8 * model.sdf(far * directions, Codes(same, same, expression))[..., None]
    return far * directions
