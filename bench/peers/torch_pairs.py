"""Gaussian splatting in plain torch, as fast as it was found to go: one flat list of (pixel, Gaussian) pairs.

Boxes give the pairs, pairs below 1/255 fall out, a stable sort by pixel keeps them front to back, and a cumulative sum of
log(1 - alpha) gives each pair's transmittance. Gradients are autograd's.
"""

from __future__ import annotations

import torch
from torch import Tensor

from avatar_models.cameras import Camera
from avatar_models.gaussians import Gaussians
from avatar_models.splatting.projection import ALPHA_MIN, project_gaussians


def splat_pairs(gaussians: Gaussians, camera: Camera, background: Tensor) -> Tensor:
    """The first camera's image (C, H, W); background (C,)."""
    height, width = camera.height, camera.width
    p = project_gaussians(gaussians, camera, 0, near=0.01, far=100.0, radius_clip=0.0, antialiased=False)
    with torch.no_grad():
        order = torch.argsort(torch.where((p.radii > 0).all(1), p.depths, torch.inf))
        order = order[: int((p.radii > 0).all(1).sum())]
        low = (p.means2d[order] - p.radii[order]).floor().clamp_min(0)
        high = torch.minimum((p.means2d[order] + p.radii[order]).ceil(), torch.tensor([width, height]))
        size = (high - low).clamp_min(0).long()
        count = size[:, 0] * size[:, 1]
        owner = torch.repeat_interleave(torch.arange(len(order)), count)
        within = torch.arange(len(owner)) - torch.repeat_interleave(count.cumsum(0) - count, count)
        x = low[owner, 0] + within % size[owner, 0]
        y = low[owner, 1] + within // size[owner, 0]
        chosen = order[owner]
        keep = _alpha(p.means2d, p.conics, p.opacities, chosen, x, y) >= ALPHA_MIN
        x, y, chosen = x[keep], y[keep], chosen[keep]
        pixel, by_pixel = torch.sort((y * width + x).int(), stable=True)
        x, y, chosen, pixel = x[by_pixel], y[by_pixel], chosen[by_pixel], pixel.long()
        first = torch.searchsorted(pixel, torch.arange(height * width))
    alpha = _alpha(p.means2d, p.conics, p.opacities, chosen, x, y).clamp_max(0.999)
    light = torch.log1p(-alpha.double())
    through = torch.cat([light.new_zeros(1), light.cumsum(0)])
    T = torch.exp(through[:-1] - through[first][pixel]).float()
    weight = torch.where(T * (1 - alpha) > 1e-4, T * alpha, 0)
    image = p.colors.new_zeros(height * width, p.colors.shape[1]).index_add(0, pixel, weight[:, None] * p.colors[chosen])
    left = 1 - weight.new_zeros(height * width).index_add(0, pixel, weight)
    return (image + left[:, None] * background).T.reshape(-1, height, width)


def _alpha(means2d: Tensor, conics: Tensor, opacities: Tensor, chosen: Tensor, x: Tensor, y: Tensor) -> Tensor:
    dx, dy = (torch.stack([x, y], 1) + 0.5 - means2d[chosen]).unbind(1)
    A, B, C = conics[chosen].unbind(1)
    return opacities[chosen] * torch.exp(-(0.5 * (A * dx * dx + C * dy * dy) + B * dx * dy))
