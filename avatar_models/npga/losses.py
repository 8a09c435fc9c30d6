"""What an NPGA is trained with (section 3.4).

    L = |I - I_rgb|_1 + lambda_s (1 - SSIM(I, I_rgb)) + the same of the screen network's picture
      + lambda_lap (Laplacian of f and of every delta_G) + lambda_F |delta_F|^2 + lambda_G sum_a |delta_a|^2 + lambda_f |f|^2
      + lambda_scale (how far scales leave their range)^2

N Gaussians, k neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from scipy.spatial import cKDTree
from torch import Tensor

from avatar_models.losses import photometric
from avatar_models.npga.model import Moved, Npga

SMALLEST_M, LARGEST_M = 1e-4, 1e-2
"""Scales between these cost nothing."""


@dataclass(frozen=True)
class Weights:
    """Of the terms. Zero leaves a term out."""

    l1: float = 0.8
    ssim: float = 0.2
    laplacian: float = 0.01
    coarse: float = 1e-3  # of offsets in centimetres
    detail: float = 1e-3
    features: float = 1e-4
    scales: float = 1.0


def losses(model: Npga, moved: Moved, image: Tensor, target: Tensor, neighbours: Tensor, weights: Weights) -> dict[str, Tensor]:
    """All terms as they stand in the sum, and `loss`, their sum.

    Splatted channels (1, 3 + H, h, w), the wanted picture (1, 3, h, w), and each canonical Gaussian's neighbours (N, k).
    """
    terms = {"raw": photometric(image[:, :3].contiguous(), target, weights.l1, weights.ssim)["loss"]}
    if model.screen is not None:
        terms["refined"] = photometric(model.refined(image), target, weights.l1, weights.ssim)["loss"]
    smoothed = [model.f, *moved.detail.values()]
    if weights.laplacian > 0:
        terms["laplacian"] = weights.laplacian * torch.stack([laplacian(x, neighbours) for x in smoothed]).sum()
    terms["coarse"] = weights.coarse * (100 * moved.coarse).square().sum(1).mean()
    if moved.detail:
        terms["detail"] = weights.detail * torch.stack([x.square().sum(1).mean() for x in moved.detail.values()]).sum()
    terms["features"] = weights.features * model.f.square().sum(1).mean()
    terms["scales"] = weights.scales * beyond(model.log_scales)
    return {"loss": torch.stack(list(terms.values())).sum(), **terms}


def laplacian(x: Tensor, neighbours: Tensor) -> Tensor:
    """Mean over Gaussians of |mean_j x_j - x_i|^2, for x (N, d) and neighbours j (N, k)."""
    return (x[neighbours].mean(1) - x).square().sum(1).mean()


def nearest(means: Tensor, count: int) -> Tensor:
    """The nearest others (N, k) of each of N places (N, 3)."""
    places = means.detach().double().cpu().numpy()
    _, found = cKDTree(places).query(places, k=min(count + 1, len(places)))
    return torch.from_numpy(found[:, 1:].copy()).to(means.device)


def beyond(log_scales: Tensor) -> Tensor:
    """Mean square by which logarithms of scales (N, 3) in metres leave their range (Saito et al. 2024)."""
    low, high = torch.log(log_scales.new_tensor([SMALLEST_M, LARGEST_M]))
    return ((low - log_scales).clamp_min(0) + (log_scales - high).clamp_min(0)).square().mean()
