"""A small NPGA on a ball, and the field that moves it."""

from __future__ import annotations

import torch
from torch.nn.functional import normalize

from avatar_models.cameras import Camera
from avatar_models.heads.nphm.forward import ForwardField, ForwardSizes
from avatar_models.npga import VARIANTS, Npga, NpgaSizes

FIELD = ForwardSizes(expression_code=4, feature_dim=3, hidden=16, layers=3, plane_size=6)
SIZES = NpgaSizes(60, FIELD, hidden=16, layers=3, latent_dim=2, screen_width=4)


def field() -> ForwardField:
    """One that moves points by millimetres."""
    torch.manual_seed(1)
    found = ForwardField(FIELD)
    torch.nn.init.normal_(found.layers[-1].weight, std=0.3)
    return found


def avatar(variant: str = "full") -> Npga:
    g = torch.Generator().manual_seed(0)
    model = Npga(VARIANTS[variant](SIZES))
    points = 0.08 * normalize(torch.randn(SIZES.num_gaussians, 3, generator=g), dim=1)
    model.initialise(points, torch.rand(len(points), 3, generator=g), torch.randn(len(points), 3, generator=g), field())
    return model


def camera(side: int = 32) -> Camera:
    K = torch.tensor([[[2.0 * side, 0, side / 2], [0, 2.0 * side, side / 2], [0, 0, 1]]])
    viewmat = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))[None].clone()
    viewmat[0, 2, 3] = 0.5
    return Camera(K, viewmat, side, side)
