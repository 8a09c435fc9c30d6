"""What a head fit looks for, and what it has seen. N frames, P = 478 landmarks, I identity and E expression coefficients."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from avatar_models.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from avatar_models.tracking.quality import inter_ocular

Array = NDArray[np.float64]


@dataclass(frozen=True)
class State:
    """Values of all unknowns."""

    identity: Array  # (I,)
    log_focal: float  # of the focal length in source pixels
    R: Array  # (N, 3, 3) head's frame to camera
    t: Array  # (N, 3)
    expression: Array  # (N, E)
    R_jaw: Array  # (N, 3, 3)
    eyes: Array  # (N, 2)

    def frames(self, which: slice | NDArray[np.int64]) -> State:
        return replace(
            self, R=self.R[which], t=self.t[which], expression=self.expression[which], R_jaw=self.R_jaw[which],
            eyes=self.eyes[which],
        )  # fmt: skip

    def viewmats(self) -> Array:
        """R and t as (N, 4, 4)."""
        viewmat = np.tile(np.eye(4), (len(self.t), 1, 1))
        viewmat[:, :3, :3], viewmat[:, :3, 3] = self.R, self.t
        return viewmat

    def both_eyes(self) -> Array:
        """Left and right eye's turns as axis-angle, (N, 6)."""
        eyes = np.concatenate([self.eyes, np.zeros((len(self.eyes), 1))], 1)
        return np.concatenate([eyes, eyes], 1)


@dataclass(frozen=True)
class Seen:
    """What was observed of N frames."""

    points: Array  # (N, P, 2) crop pixels
    crop: Array  # (N, 3) x0, y0, scale of the stored crop in the source picture
    source_size: tuple[int, int]  # width, height in pixels
    eye_distance: Array  # (N,) pixels
    camera: tuple[float, float, float, float] | None = None
    """fx, fy, cx, cy of the source in pixels where they are known; what is fitted then is the logarithm of a factor of them."""

    def frames(self, which: slice | NDArray[np.int64]) -> Seen:
        return replace(self, points=self.points[which], crop=self.crop[which], eye_distance=self.eye_distance[which])

    def K(self, log_focal: float) -> Array:
        """(N, 3, 3) in crop pixels."""
        x0, y0, scale = self.crop.T
        fx, fy, cx, cy = self.camera or (1.0, 1.0, self.source_size[0] / 2, self.source_size[1] / 2)
        K = np.zeros((len(self.crop), 3, 3))
        K[:, 0, 0], K[:, 1, 1] = fx * np.exp(log_focal) / scale, fy * np.exp(log_focal) / scale
        K[:, 0, 2], K[:, 1, 2] = (cx - x0) / scale, (cy - y0) / scale
        K[:, 2, 2] = 1.0
        return K


def seen_of(points: NDArray[np.floating], crop: NDArray[np.floating], source_size: tuple[int, int]) -> Seen:
    observed = np.asarray(points[..., :2], np.float64)
    return Seen(observed, np.asarray(crop, np.float64), source_size, inter_ocular(observed))


def rotation(vectors: Array) -> Array:
    """Axis-angle (N, 3) in radians -> (N, 3, 3)."""
    return axis_angle_to_matrix(torch.from_numpy(np.ascontiguousarray(vectors))).numpy()


def axis_angle(R: Array) -> Array:
    """(N, 3, 3) -> (N, 3)."""
    return matrix_to_axis_angle(torch.from_numpy(np.ascontiguousarray(R))).numpy()
