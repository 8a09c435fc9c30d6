"""Pinhole cameras in OpenCV's convention: x right, y down, z forward, pixel centres at +0.5.

Shapes: B cameras. Lengths in metres, K in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Camera:
    """A batch of pinhole cameras that share one image size."""

    K: Tensor  # (B, 3, 3) pixels
    viewmat: Tensor  # (B, 4, 4) world to camera, rigid
    width: int  # pixels
    height: int  # pixels

    def __post_init__(self) -> None:
        if self.K.ndim != 3 or self.K.shape[1:] != (3, 3):
            raise ValueError(f"K must be (B, 3, 3), is {tuple(self.K.shape)}")
        if self.viewmat.shape != (len(self.K), 4, 4):
            raise ValueError(f"viewmat must be ({len(self.K)}, 4, 4) like K, is {tuple(self.viewmat.shape)}")
        if self.width <= 0 or self.height <= 0:
            raise ValueError(f"image size must be positive, is {self.width} x {self.height}")

    def __len__(self) -> int:
        return len(self.K)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Camera:
        return Camera(self.K.to(device, dtype), self.viewmat.to(device, dtype), self.width, self.height)

    def __getitem__(self, index: slice | Tensor) -> Camera:
        return Camera(self.K[index], self.viewmat[index], self.width, self.height)


def project(points: Tensor, camera: Camera) -> Tensor:
    """Projects world points (B or 1, N, 3) in metres to pixels (B, N, 2). x_px = K (R x + t) / z."""
    R, t = camera.viewmat[:, :3, :3], camera.viewmat[:, :3, 3]
    x = points @ R.mT + t[:, None]
    x = x @ camera.K.mT
    return x[..., :2] / x[..., 2:]


def resized(camera: Camera, width: int, height: int) -> Camera:
    """The same view on an image resampled to width x height; focal lengths and principal point scale with it."""
    scale = camera.K.new_tensor([[width / camera.width], [height / camera.height], [1.0]])
    return Camera(camera.K * scale, camera.viewmat, width, height)


def cropped(camera: Camera, left: float, top: float, width: int, height: int) -> Camera:
    """The same view on the window whose top left corner lies at (left, top) pixels of the full image."""
    shift = camera.K.new_tensor([[0.0, 0.0, left], [0.0, 0.0, top], [0.0, 0.0, 0.0]])
    return Camera(camera.K - shift, camera.viewmat, width, height)
