"""One rasteriser for training, rendering and tracking: `splat(gaussians, camera) -> image, alpha, depth`.

CUDA tensors go to gsplat, CPU tensors to this project's kernels, and both mean the same: EWA projection with 0.3 px^2
added to the screen covariance, alpha below 1/255 skipped, alpha capped at 0.999, a pixel closed once its
transmittance would fall to 1e-4, pixel centres at +0.5. :mod:`avatar_models.splatting.reference` is the judge of both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from avatar_models.cameras import Camera
from avatar_models.gaussians import Gaussians

MAX_CHANNELS = 512  # gsplat's limit too


@dataclass(frozen=True)
class Splats:
    """A rendered batch, and what density control needs of it. B cameras, N Gaussians, C channels."""

    image: Tensor  # (B, C, H, W), background included
    alpha: Tensor  # (B, 1, H, W)
    depth: Tensor  # (B, 1, H, W) expected depth in metres; 0 where nothing is
    means2d: Tensor  # (B, N, 2) pixels; call retain_grad() before backward for screen-space gradients
    radii: Tensor  # (B, N, 2) int32 pixels; 0 where a Gaussian is not seen


def splat(
    gaussians: Gaussians,
    camera: Camera,
    background: Tensor | None = None,  # (C,) or (B, C); black by default
    *,
    near: float = 0.01,  # metres
    far: float = 100.0,
    radius_clip: float = 0.0,  # pixels: smaller Gaussians are left out
    antialiased: bool = False,
) -> Splats:
    """Renders Gaussians from each camera (Kerbl et al. 2023, equations 1 to 3).

    Differentiable in all tensors of `gaussians`, in `camera.viewmat` and in `background`.
    `antialiased` dims a Gaussian by the share of its screen size that the added 0.3 px^2 makes up (Yu et al. 2024).

    Raises ValueError for shapes that do not fit, on a CPU also for cameras that are not finite, and UnusableGaussians for
    values that are not finite or a quaternion without length, with the first one's index (plain colours are looked at where
    they are seen). On CUDA values are not looked at: it would make every call wait for the device.
    """
    _check(gaussians, camera)
    if not 0 < near < far:
        raise ValueError(f"near and far must be 0 < near < far, are {near} and {far}")
    background = _background(gaussians, camera, background)
    if gaussians.means.is_cuda:
        from avatar_models.splatting.cuda import splat_cuda as backend
    else:
        from avatar_models.splatting.cpu import splat_cpu as backend
    return backend(gaussians, camera, background, near=near, far=far, radius_clip=radius_clip, antialiased=antialiased)


def num_channels(colors: Tensor) -> int:
    """Channels of the image that colours (N, C) or SH coefficients (N, K, 3) give."""
    return colors.shape[-1]


def _background(gaussians: Gaussians, camera: Camera, background: Tensor | None) -> Tensor:
    channels = num_channels(gaussians.colors)
    if background is None:
        background = gaussians.means.new_zeros(channels)
    if background.shape not in {(channels,), (len(camera), channels)}:
        raise ValueError(f"background must be ({channels},) or ({len(camera)}, {channels}), is {tuple(background.shape)}")
    return background.to(gaussians.means).expand(len(camera), channels)


def _check(gaussians: Gaussians, camera: Camera) -> None:
    if not len(camera):
        raise ValueError("at least one camera is needed")
    if gaussians.means.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"Gaussians must be float32 or float64, are {gaussians.means.dtype}")
    if gaussians.means.ndim != 2:
        raise ValueError(f"means must be (N, 3), are {tuple(gaussians.means.shape)}")
    count = len(gaussians)
    wanted: dict[str, tuple[Tensor | None, tuple[int, ...]]] = {
        "means": (gaussians.means, (count, 3)),
        "quats": (gaussians.quats, (count, 4)),
        "scales": (gaussians.scales, (count, 3)),
        "covariances": (gaussians.covariances, (count, 3, 3)),
        "opacities": (gaussians.opacities, (count,)),
    }
    if gaussians.covariances is None and (gaussians.quats is None or gaussians.scales is None):
        raise ValueError("Gaussians need quats and scales, or covariances")
    for name, (tensor, shape) in wanted.items():
        if tensor is not None and tensor.shape != shape:
            raise ValueError(f"{name} must be {shape}, is {tuple(tensor.shape)}")
    colors = gaussians.colors
    if colors.ndim == 3:
        if colors.shape[0] != count or colors.shape[1] not in (1, 4, 9, 16) or colors.shape[2] != 3:
            raise ValueError(f"SH colors must be ({count}, 1 | 4 | 9 | 16, 3), are {tuple(colors.shape)}")
    elif colors.ndim != 2 or len(colors) != count or not 1 <= colors.shape[1] <= MAX_CHANNELS:
        raise ValueError(f"colors must be ({count}, 1 to {MAX_CHANNELS}), are {tuple(colors.shape)}")
    if not camera.K.is_cuda and not camera.viewmat.is_cuda:
        _check_values(camera.K.detach(), camera.viewmat.detach())


def _check_values(K: Tensor, viewmat: Tensor) -> None:
    if not math.isfinite(float(viewmat.sum() + K.sum())):
        raise ValueError("the camera's K or viewmat is not finite")
    if not bool((torch.diagonal(K[:, :2, :2], dim1=1, dim2=2) > 0).all()):
        raise ValueError("the camera's focal lengths must be positive")
