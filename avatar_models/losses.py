"""Image losses. Images are (B, C, H, W) in [0, 1]."""

from __future__ import annotations

import torch
from torch import Tensor

from avatar_models.metrics import ssim_map


def l1(image: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference."""
    return (image - target).abs().mean()


def dssim(image: Tensor, target: Tensor) -> Tensor:
    """1 - SSIM (3DGS section 5), 0 for equal images."""
    return 1.0 - ssim_map(image, target).mean()


def photometric(image: Tensor, target: Tensor, lambda_l1: float, lambda_ssim: float) -> dict[str, Tensor]:
    """HeadGaS's loss without its perceptual term: L = lambda_1 L1 + lambda_s (1 - SSIM). Keys: loss, l1, dssim."""
    terms = {"l1": l1(image, target), "dssim": dssim(image, target)}
    return {"loss": lambda_l1 * terms["l1"] + lambda_ssim * terms["dssim"], **terms}


def first_not_finite(terms: dict[str, Tensor]) -> str | None:
    """Name of the first term that is NaN or infinite, if any."""
    return next((name for name, value in terms.items() if not bool(torch.isfinite(value))), None)
