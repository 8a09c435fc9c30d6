"""Image metrics. Images are (B, C, H, W) in [0, 1]."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

WINDOW = 11  # Wang et al. 2004: 11 x 11 Gaussian window of sigma 1.5
SIGMA = 1.5
C1, C2 = 0.01**2, 0.03**2


def psnr(image: Tensor, target: Tensor) -> Tensor:
    """Peak signal-to-noise ratio (B,) in dB; infinite for equal images."""
    return -10.0 * torch.log10((image - target).square().flatten(1).mean(1))


def ssim(image: Tensor, target: Tensor) -> Tensor:
    """Structural similarity (B,), at most 1."""
    return ssim_map(image, target).flatten(1).mean(1)


def psnr_inside(image: Tensor, target: Tensor, matte: Tensor) -> Tensor:
    """PSNR (B,) in dB over the pixels of a matte (B, 1, H, W) in [0, 1], which weighs them; NaN where that is empty."""
    squared = ((image - target).square() * matte).flatten(1).sum(1)
    return -10.0 * torch.log10(squared / (image.shape[1] * matte.flatten(1).sum(1)))


def ssim_inside(image: Tensor, target: Tensor, matte: Tensor) -> Tensor:
    """SSIM (B,), the mean of its map weighed by a matte (B, 1, H, W) in [0, 1]; NaN where that is empty."""
    similar = (ssim_map(image, target) * matte).flatten(1).sum(1)
    return similar / (image.shape[1] * matte.flatten(1).sum(1))


def ssim_map(image: Tensor, target: Tensor) -> Tensor:
    """SSIM of each pixel (B, C, H, W) (Wang et al. 2004, equation 13), zeros beyond the border as in 3DGS."""
    h, w = image.shape[-2:]
    stacked = torch.stack([image, target, image * image, target * target, image * target])
    # The separable blur as two products with banded matrices: on a CPU its gradient costs a quarter of a convolution's.
    rows, columns = _blur_matrix(h, image.dtype, image.device), _blur_matrix(w, image.dtype, image.device)
    mu_x, mu_y, xx, yy, xy = rows @ stacked @ columns.mT
    var_x, var_y, cov = xx - mu_x**2, yy - mu_y**2, xy - mu_x * mu_y
    return ((2 * mu_x * mu_y + C1) * (2 * cov + C2)) / ((mu_x**2 + mu_y**2 + C1) * (var_x + var_y + C2))


@cache
def _blur_matrix(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(size, size): multiplying a column by it blurs it with the Gaussian window."""
    offsets = torch.arange(WINDOW, dtype=dtype, device=device) - WINDOW // 2
    weights = torch.exp(-0.5 * (offsets / SIGMA) ** 2)
    weights = weights / weights.sum()
    apart = torch.arange(size, device=device)[None] - torch.arange(size, device=device)[:, None]
    return torch.where(apart.abs() <= WINDOW // 2, weights[(apart + WINDOW // 2).clamp(0, WINDOW - 1)], weights.new_zeros(()))
