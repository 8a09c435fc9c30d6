"""The stored square crop: one scale for a whole segment, a centre that moves smoothly, padding at the picture's borders.

A crop is a square of whole source pixels, so that its transform is exact: source pixel = scale * crop pixel + (x0, y0).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from avatar_models.tracking.detect import padded_square

MIN_SIDE_PX = 16


@dataclass(frozen=True)
class CropPath:
    """Square windows of one segment in source pixels."""

    origins: NDArray[np.int64]  # (N, 2) x0, y0 of each frame; may lie outside the picture
    side: int  # of all frames
    size: int  # side of the stored crop

    @property
    def scale(self) -> float:
        """Source pixels per crop pixel."""
        return self.side / self.size

    def transforms(self) -> NDArray[np.float32]:
        """(N, 3) x0, y0, scale."""
        scale = np.full((len(self.origins), 1), self.scale)
        return np.concatenate([self.origins, scale], axis=1).astype(np.float32)

    def picture(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """(N, 4) left, top, right and bottom of the source picture of shape (H, W, ...), in crop pixels."""
        corners: NDArray[np.float64] = np.array([0, 0, shape[1], shape[0]]) - np.tile(self.origins, 2)
        return np.asarray(corners / self.scale, np.float32)

    def to_crop(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """Landmarks (N, P, 3) from source to crop pixels; z is scaled alike."""
        moved = points.astype(np.float64)
        moved[..., :2] -= self.origins[:, None]
        return (moved / self.scale).astype(np.float32)


def crop_path(points: NDArray[np.float32], times: NDArray[np.float64], *, scale: float, smooth_s: float, size: int) -> CropPath:
    """The crops of a segment from its landmarks (N, P, 2 or 3) in source pixels and their times (N,) in seconds.

    The side is `scale` times the median of the landmarks' larger extent; the centre is the middle of their bounding
    box, smoothed by a Gaussian of `smooth_s` seconds over time.
    """
    low, high = points[..., :2].min(1).astype(np.float64), points[..., :2].max(1).astype(np.float64)
    side = max(MIN_SIDE_PX, round(scale * float(np.median((high - low).max(1)))))
    centres = smoothed((low + high) / 2, times, smooth_s)
    return CropPath(np.round(centres - side / 2).astype(np.int64), side, size)


def smoothed(values: NDArray[np.float64], times: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    """Gaussian-weighted straight-line fit around each time: (N, D) -> (N, D).

    A local line, not a local mean, so that a head that moves steadily is not pulled back at a segment's ends, and so
    that gaps and uneven frame times do no harm.
    """
    result = np.empty_like(values)
    for row, time in enumerate(times):
        near = slice(*np.searchsorted(times, (time - 4 * sigma, time + 4 * sigma)))
        shift = times[near] - time
        weight = np.exp(-0.5 * (shift / sigma) ** 2)
        total, first, second = weight.sum(), weight @ shift, weight @ shift**2
        spread = total * second - first**2
        mean = weight @ values[near]
        if spread <= 1e-9 * total**2 * sigma**2:
            result[row] = mean / total
        else:
            result[row] = (second * mean - first * ((weight * shift) @ values[near])) / spread
    return result


def cut_crop(picture: NDArray[np.uint8], origin: NDArray[np.int64], side: int, size: int) -> NDArray[np.uint8]:
    """One crop (size, size, 3). Outside the picture its border pixels are repeated: no hard edge for the matte model."""
    square = padded_square(picture, int(origin[0]), int(origin[1]), side)
    if side == size:
        return square
    return cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA if side > size else cv2.INTER_CUBIC)


def inside_picture(shape: tuple[int, ...], origin: NDArray[np.int64], side: int, size: int) -> NDArray[np.bool_] | None:
    """(size, size) whether a crop pixel's centre lies in the picture of shape (H, W, ...); None where all do."""
    height, width = shape[:2]
    x0, y0 = int(origin[0]), int(origin[1])
    if x0 >= 0 and y0 >= 0 and x0 + side <= width and y0 + side <= height:
        return None
    centres = (np.arange(size) + 0.5) * (side / size)
    x, y = centres + x0, centres + y0
    inside: NDArray[np.bool_] = ((y >= 0) & (y <= height))[:, None] & ((x >= 0) & (x <= width))[None]
    return inside
