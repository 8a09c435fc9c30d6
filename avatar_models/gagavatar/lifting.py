"""The planes of the dual lifting (section 3.2): points that the photo's features are placed on before they are lifted."""

from __future__ import annotations

import torch
from torch import Tensor

from avatar_models.cameras import Camera

MAX_OFFSET = 0.2
"""Metres that a point may leave its plane by."""


def plane(camera: Camera, size: int) -> tuple[Tensor, Tensor]:
    """Points (B, size^2, 3) in metres of each camera's plane, row by row, and the optical axes (B, 3).

    The plane goes through the head's origin, at a right angle to the axis; the outermost points lie on the picture's edges.
    """
    K, viewmat = camera.K, camera.viewmat
    R, t = viewmat[:, :3, :3], viewmat[:, :3, 3:]
    u = torch.linspace(0.0, camera.width, size, dtype=K.dtype, device=K.device)
    v = torch.linspace(0.0, camera.height, size, dtype=K.dtype, device=K.device)
    v, u = torch.meshgrid(v, u, indexing="ij")
    pixels = torch.stack([u, v, torch.ones_like(u)]).flatten(1)  # (3, size^2)
    # of depth one; `solve` itself would make a GPU wait to look for a K that cannot be inverted
    rays = R.mT @ torch.linalg.solve_ex(K, pixels.expand(len(K), -1, -1)).result
    o, d = -R.mT @ t, R.mT[:, :, 2:]  # (B, 3, 1)
    distance = (o * d).sum(1, keepdim=True).abs()
    return (o + distance * rays).mT, d[..., 0]
