"""A GAGAvatar of a few thousand weights, and a photo for it."""

from __future__ import annotations

import torch
from torch import Tensor

from avatar_models.cameras import Camera
from avatar_models.gagavatar import FIXED, GAGAvatar, GagavatarSizes, Setting
from avatar_models.gagavatar.photo_colors import Photos
from avatar_models.gagavatar.sizes import EncoderSizes, RendererSizes
from avatar_models.rotations import axis_angle_to_matrix

VERTICES, SIDE = 30, 32
TINY = GagavatarSizes(
    num_vertices=VERTICES,
    image_size=SIDE,
    encoder=EncoderSizes(32, 4, 12, 4, 2, (4, 5, 6, 7), 8),
    renderer=RendererSizes((6, 6, 4, 4), 5, 2),
    plane_size=12,
    feature_dim=7,
    vertex_dim=9,
    head_hidden=8,
)


def tiny(sizes: GagavatarSizes = TINY, setting: Setting = FIXED) -> GAGAvatar:
    torch.manual_seed(0)
    return GAGAvatar(sizes, setting).eval()


def cameras(count: int, side: int = SIDE) -> Camera:
    """Cameras that look at the head's origin from half a metre to a metre away, each from another side."""
    g = torch.Generator().manual_seed(1)
    viewmat = torch.eye(4).repeat(count, 1, 1)
    viewmat[:, :3, :3] = torch.diag(torch.tensor([1.0, -1.0, -1.0])) @ axis_angle_to_matrix(
        0.3 * torch.randn(count, 3, generator=g)
    )
    viewmat[:, :3, 3] = torch.tensor([0.01, -0.02, 0.7]) + 0.03 * torch.randn(count, 3, generator=g)
    K = torch.tensor([[2.2 * side, 0, 0.5 * side], [0, 2.3 * side, 0.48 * side], [0, 0, 1]])
    return Camera(K.repeat(count, 1, 1), viewmat, side, side)


def photos(count: int) -> Tensor:
    return torch.rand(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(2))


def shown(count: int) -> Photos:
    return Photos(photos(count), cameras(count), heads(count))


def heads(count: int) -> Tensor:
    """Vertices (B, V, 3) of made-up heads, metres."""
    return 0.08 * torch.randn(count, VERTICES, 3, generator=torch.Generator().manual_seed(3))
