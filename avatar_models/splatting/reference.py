"""Gaussian splatting in a few dozen lines of torch: every pixel looks at every Gaussian. Slow, and the judge of the rest.

Meant for float64. Gradients come from autograd.
"""

from __future__ import annotations

import torch
from torch import Tensor

from avatar_models.cameras import Camera
from avatar_models.gaussians import Gaussians
from avatar_models.splatting import Splats
from avatar_models.splatting.projection import ALPHA_MIN, project_gaussians

ALPHA_MAX = 0.999
TRANSMITTANCE_MIN = 1e-4


def splat_reference(
    gaussians: Gaussians,
    camera: Camera,
    background: Tensor,  # (B, C)
    *,
    near: float = 0.01,
    far: float = 100.0,
    radius_clip: float = 0.0,
    antialiased: bool = False,
) -> Splats:
    """C(p) = sum_i c_i alpha_i prod_{j<i} (1 - alpha_j) + T background (3DGS equation 3), front to back."""
    H, W = camera.height, camera.width
    images, alphas, depths, means2d, radii = [], [], [], [], []
    rows, columns = torch.meshgrid(torch.arange(H) + 0.5, torch.arange(W) + 0.5, indexing="ij")
    pixels = torch.stack([columns, rows], -1).reshape(-1, 1, 2).to(gaussians.means)
    for index in range(len(camera)):
        p = project_gaussians(gaussians, camera, index, near=near, far=far, radius_clip=radius_clip, antialiased=antialiased)
        seen = (p.radii > 0).all(1).nonzero()[:, 0]
        order = seen[torch.argsort(p.depths[seen].detach(), stable=True)]
        dx, dy = (pixels - p.means2d[order]).unbind(-1)  # (P, M)
        A, B, C = p.conics[order].unbind(-1)
        sigma = 0.5 * (A * dx * dx + C * dy * dy) + B * dx * dy
        alpha = (p.opacities[order] * torch.exp(-sigma)).clamp_max(ALPHA_MAX)
        alpha = torch.where((alpha >= ALPHA_MIN) & (sigma >= 0), alpha, torch.zeros_like(alpha))
        after = torch.cumprod(1 - alpha, 1)
        # Once the next Gaussian would take the transmittance to 1e-4, the pixel is closed.
        open_ = after > TRANSMITTANCE_MIN
        alpha = alpha * open_
        T = torch.cat([alpha.new_ones(len(alpha), 1), torch.cumprod(1 - alpha, 1)], 1)
        weight = alpha * T[:, :-1]
        image = weight @ p.colors[order] + T[:, -1:] * background[index]
        opacity = 1 - T[:, -1:]
        depth = (weight @ p.depths[order][:, None]) / opacity.clamp_min(1e-10)
        images.append(image.mT.reshape(-1, H, W))
        alphas.append(opacity.mT.reshape(1, H, W))
        depths.append(depth.mT.reshape(1, H, W))
        means2d.append(p.means2d)
        radii.append(p.radii)
    return Splats(torch.stack(images), torch.stack(alphas), torch.stack(depths), torch.stack(means2d), torch.stack(radii))
