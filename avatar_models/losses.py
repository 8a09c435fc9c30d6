"""Image losses. Images are (B, C, H, W) in [0, 1]."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from avatar_models.kernels import ssim as kernels
from avatar_models.kernels.arena import empty
from avatar_models.kernels.threads import run
from avatar_models.metrics import ssim_map


def photometric(image: Tensor, target: Tensor, lambda_l1: float, lambda_ssim: float) -> dict[str, Tensor]:
    """HeadGaS's loss without its perceptual term: L = lambda_1 L1 + lambda_s (1 - SSIM) (Dhamo et al. 2024, equation 6).

    Keys: loss, l1, dssim; only loss carries a gradient, and only to `image`. float32 images on a CPU go to one fused
    kernel; on CUDA the fused_ssim package is used where it is installed.
    """
    if image.shape != target.shape or image.ndim != 4:
        raise ValueError(f"image and target must both be (B, C, H, W), are {tuple(image.shape)} and {tuple(target.shape)}")
    target = target.to(image.dtype)
    if image.device.type == "cpu" and image.dtype == torch.float32:
        loss, l1, dssim = _FusedPhotometric.apply(image, target, lambda_l1, lambda_ssim)
    else:
        l1 = (image - target).abs().mean()
        dssim = 1.0 - _mean_ssim(image, target)
        loss = lambda_l1 * l1 + lambda_ssim * dssim
    return {"loss": loss, "l1": l1.detach(), "dssim": dssim.detach()}


def numbers_of(terms: Mapping[str, Tensor]) -> dict[str, float]:
    """The terms as numbers. One wait for the device."""
    return dict(zip(terms, torch.stack([value.detach() for value in terms.values()]).tolist(), strict=True))


def first_not_finite(numbers: Mapping[str, float]) -> str | None:
    """Name of the first number that is NaN or infinite, if any. `loss`, the sum, comes last: another one is the cause."""
    names = sorted(numbers, key=lambda name: name == "loss")
    return next((name for name in names if not math.isfinite(numbers[name])), None)


def _mean_ssim(image: Tensor, target: Tensor) -> Tensor:
    fused = _fused_ssim() if image.is_cuda else None
    return ssim_map(image, target).mean() if fused is None else fused(image, target, padding="same")


@cache
def _fused_ssim() -> Callable[..., Tensor] | None:
    """The CUDA kernel that 3DGS implementations share (github.com/rahul-goel/fused-ssim), if it is installed."""
    try:
        from fused_ssim import fused_ssim
    except ImportError:
        return None
    return fused_ssim  # type: ignore[no-any-return]


class _FusedPhotometric(torch.autograd.Function):
    """image, target (B, C, H, W) -> loss, l1, dssim; the gradient is found with the loss, since the loss is one number."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, target: Tensor, lambda_l1: float, lambda_ssim: float) -> tuple[Tensor, ...]:
        height, width = image.shape[-2:]
        x, y = (np.ascontiguousarray(t.detach().numpy()).reshape(-1, height, width) for t in (image, target))
        threads, scratch = torch.get_num_threads(), kernels.scratch_floats(width)
        pieces = len(x) * -(-height // kernels.BAND)
        maps = [empty(*x.shape) for _ in range(3)]
        sums = empty(pieces, 2)
        run(kernels.compare, pieces, threads, x, y, *maps, sums, scratch=scratch)
        l1, ssim = sums.sum(0, dtype=np.float64) / x.size
        if ctx.needs_input_grad[0]:
            v_x = empty(*x.shape)
            by_l1, by_ssim = lambda_l1 / x.size, -lambda_ssim / x.size
            run(kernels.gradient, pieces, threads, x, y, *maps, by_l1, by_ssim, v_x, scratch=scratch)
            ctx.save_for_backward(torch.from_numpy(v_x.reshape(image.shape)))
        found = tuple(torch.tensor(value, dtype=torch.float32) for value in (l1, 1.0 - ssim))
        ctx.mark_non_differentiable(*found)
        return torch.tensor(lambda_l1 * l1 + lambda_ssim * (1.0 - ssim), dtype=torch.float32), *found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v_loss: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        return ctx.saved_tensors[0] * v_loss, None, None, None
