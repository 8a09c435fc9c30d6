"""Image metrics. Images are (B, C, H, W) in [0, 1]."""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
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


def ssim_map(image: Tensor, target: Tensor) -> Tensor:
    """SSIM of each pixel (B, C, H, W) (Wang et al. 2004, equation 13), zeros beyond the border as in 3DGS."""
    b, c, h, w = image.shape
    stacked = torch.cat([image, target, image * image, target * target, image * target]).reshape(5 * b * c, 1, h, w)
    window = _window(image.dtype, image.device)
    pad = WINDOW // 2
    blurred = F.conv2d(F.conv2d(stacked, window[None, None, None], padding=(0, pad)), window[None, None, :, None], padding=(pad, 0))
    mu_x, mu_y, xx, yy, xy = blurred.reshape(5, b, c, h, w)
    var_x, var_y, cov = xx - mu_x**2, yy - mu_y**2, xy - mu_x * mu_y
    return ((2 * mu_x * mu_y + C1) * (2 * cov + C2)) / ((mu_x**2 + mu_y**2 + C1) * (var_x + var_y + C2))


@cache
def _window(dtype: torch.dtype, device: torch.device) -> Tensor:
    offsets = torch.arange(WINDOW, dtype=dtype, device=device) - WINDOW // 2
    weights = torch.exp(-0.5 * (offsets / SIGMA) ** 2)
    return weights / weights.sum()
