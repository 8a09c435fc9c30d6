"""Scenes that the splatting tests share."""

from __future__ import annotations

import torch

from avatar_models.cameras import Camera
from avatar_models.gaussians import Gaussians

SIZE = 40


def scene(seed: int, count: int = 150, channels: int = 3, sh: int = 0) -> tuple[Gaussians, Camera]:
    """A cloud of Gaussians before two cameras, in float64; all numbers are float32's, so that both see the same scene."""
    g = torch.Generator().manual_seed(seed)
    normal = lambda *shape: torch.randn(*shape, generator=g, dtype=torch.float64)  # noqa: E731
    colors = normal(count, sh, 3) * 0.3 if sh else torch.rand(count, channels, generator=g, dtype=torch.float64)
    scales = torch.exp(normal(count, 3) * 0.5) * 0.02
    tensors = (normal(count, 3) * 0.1, normal(count, 4), scales, torch.sigmoid(normal(count)), colors)
    gaussians = Gaussians(*(tensor.float().double() for tensor in tensors))
    viewmat = torch.eye(4, dtype=torch.float64).repeat(2, 1, 1)
    viewmat[:, 2, 3] = torch.tensor([0.8, 1.1])
    viewmat[1, :3, :3] = torch.linalg.matrix_exp(
        torch.tensor([[0.0, -0.1, 0.2], [0.1, 0, 0.0], [-0.2, 0, 0]], dtype=torch.float64)
    )
    K = torch.tensor([[2.0 * SIZE, 0, SIZE / 2], [0, 2.2 * SIZE, SIZE / 2 + 1], [0, 0, 1]], dtype=torch.float64).repeat(2, 1, 1)
    return gaussians, Camera(K.float().double(), viewmat.float().double(), SIZE, SIZE + 5)


def as_float32(gaussians: Gaussians) -> Gaussians:
    return Gaussians(
        *(t.float() for t in (gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities, gaussians.colors))
    )


def strange_scene(seed: int) -> tuple[Gaussians, Camera]:
    """A random scene with one of the things that break rasterisers."""
    g = torch.Generator().manual_seed(seed)
    count = [0, 1, 40, 120][seed % 4]
    normal = lambda *shape: torch.randn(*shape, generator=g, dtype=torch.float64)  # noqa: E731
    means, quats, scales = normal(count, 3) * 0.15, normal(count, 4), torch.exp(normal(count, 3)) * 0.02
    opacities, colors = torch.sigmoid(2 * normal(count)), torch.rand(count, 1 + seed % 5, generator=g, dtype=torch.float64)
    oddity = seed // 4 % 8
    some = slice(0, count // 3)
    if oddity == 1:
        means[some, 2] -= 3.0  # behind the camera
    elif oddity == 2:
        scales[some] *= 100.0  # huge
    elif oddity == 3:
        scales[some] *= 1e-4  # far below a pixel
    elif oddity == 4:
        scales[some, 0] = 1e-9  # flat
    elif oddity == 5:
        opacities[some] = 1.0
    elif oddity == 6:
        means[some, 0] += 5.0  # outside the picture
    elif oddity == 7:
        means[some, 2] = means[0, 2] if count else 0.0  # all at one depth
    viewmat = torch.eye(4, dtype=torch.float64)[None].clone()
    viewmat[0, 2, 3] = 0.9
    width, height = 33 + seed % 30, 25 + seed % 41
    K = torch.tensor([[[1.8 * width, 0, width / 2], [0, 1.7 * width, height / 2], [0, 0, 1]]], dtype=torch.float64)
    return Gaussians(means, quats, scales, opacities, colors), Camera(K, viewmat, width, height)
