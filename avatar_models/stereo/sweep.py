"""Depths of a view: planes swept through the space before it, and pictures compared on them.

At each pixel a small piece of plane is put at one depth after the other. It takes the neighbours' pixels to this view's
(Collins 1996: x' ~ K' (R + t n' / c) K^-1 x for the plane n'X = c), and where the surface lies, patches look the same:
their normalised cross-correlation is highest. One thread, numba. Metres; cameras are OpenCV's, pixel centres at +0.5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

Array32 = NDArray[np.float32]
Array = NDArray[np.float64]


@dataclass(frozen=True)
class View:
    """What one camera saw."""

    picture: Array32  # (H, W) gray in [0, 1]
    mask: NDArray[np.bool_]  # (H, W) pixels that may show the surface
    K: Array  # (3, 3) pixels
    viewmat: Array  # (4, 4) world to camera

    @property
    def place(self) -> Array:
        """The camera's centre (3,) in the world."""
        return np.asarray(-self.viewmat[:3, :3].T @ self.viewmat[:3, 3])


@dataclass(frozen=True)
class Bounds:
    """Where a view's surface is looked for, and how it lies about there."""

    near: Array32  # (H, W) depths; not finite where there is nothing to look for
    far: Array32  # (H, W)
    normals: Array32  # (H, W, 3) in the camera's frame

    @classmethod
    def between(cls, near: float, far: float, height: int, width: int) -> Bounds:
        """Two planes that face the camera."""
        normals = np.tile(np.array([0, 0, -1], np.float32), (height, width, 1))
        return cls(np.full((height, width), near, np.float32), np.full((height, width), far, np.float32), normals)


@dataclass(frozen=True)
class SweepOptions:
    """Raises ValueError for options that find nothing."""

    depths: int = 25
    radius: int = 3  # pixels: of patches of 2 radius + 1
    stride: int = 2  # pixels from one that is asked to the next
    neighbours: int = 4  # nearest cameras that a view is compared with
    best: int = 2  # of those, the ones that count: the others may see something else
    score: float = 0.6  # least correlation
    contrast: float = 0.01  # least standard deviation of a patch's gray levels
    agree: float = 0.002  # metres that two views' depths of one point may be apart

    def __post_init__(self) -> None:
        if self.depths < 3 or self.radius < 1 or min(self.stride, self.neighbours, self.best) < 1:
            raise ValueError(f"{self}: at least three depths, and one of all else")


def sweep(view: View, others: Sequence[View], bounds: Bounds, options: SweepOptions) -> Array32:
    """Depths of every `stride`-th pixel of a view (ceil(H / stride), ceil(W / stride)), NaN where none is sure.

    A depth is sure where the patch has contrast, and its correlation with the best of the others is high, and has its top
    between the bounds.
    """
    inverse = np.linalg.inv(view.K)
    turned, moved = [], []
    for other in others:
        between = other.viewmat @ np.linalg.inv(view.viewmat)
        turned.append(other.K @ between[:3, :3] @ inverse)
        moved.append(other.K @ between[:3, 3])
    height, width = view.picture.shape
    depth = np.full((-(-height // options.stride), -(-width // options.stride)), np.nan, np.float32)
    if others:
        _sweep(
            view.picture, view.mask, inverse, np.stack([other.picture for other in others]),
            np.stack([other.mask for other in others]), np.stack(turned), np.stack(moved),
            bounds.near, bounds.far, bounds.normals, options.depths, options.radius, options.stride,
            min(options.best, len(others)), options.score, options.contrast, depth,
        )  # fmt: skip
    return depth


@numba.njit(nogil=True, cache=True)
def _sweep(  # type: ignore[no-untyped-def]
    picture,
    mask,
    inverse,
    others,
    masks,
    turned,
    moved,
    near,
    far,
    normals,
    depths,
    radius,
    stride,
    best,
    score,
    contrast,
    depth,
):
    height, width = picture.shape
    size = 2 * radius + 1
    count = size * size
    patch = np.zeros(count, np.float64)
    scores = np.zeros(depths, np.float64)
    found = np.zeros(len(others), np.float64)
    for row in range(depth.shape[0]):
        y = row * stride
        if y < radius or y >= height - radius:
            continue
        for column in range(depth.shape[1]):
            x = column * stride
            if x < radius or x >= width - radius or not mask[y, x]:
                continue
            low, high = near[y, x], far[y, x]
            if not (np.isfinite(low) and np.isfinite(high) and 0 < low < high):
                continue
            mean, k = 0.0, 0
            for v in range(-radius, radius + 1):
                for u in range(-radius, radius + 1):
                    patch[k] = picture[y + v, x + u]
                    mean += patch[k]
                    k += 1
            mean /= count
            power = 0.0
            for k in range(count):
                patch[k] -= mean
                power += patch[k] * patch[k]
            if power < count * contrast * contrast:
                continue
            n = normals[y, x]
            # The plane's n'X = c holds c = depth * facing: the middle ray's z is one, and so its point is depth * ray.
            m = inverse.T @ n.astype(np.float64)
            facing = m[0] * (x + 0.5) + m[1] * (y + 0.5) + m[2]
            if abs(facing) < 0.2:
                continue
            for s in range(depths):
                c = (low + (high - low) * s / (depths - 1)) * facing
                seen = 0
                for o in range(len(others)):
                    ncc = _correlation(patch, power, others[o], masks[o], turned[o], moved[o], m, c, x, y, radius)
                    if ncc > -2:
                        found[seen] = ncc
                        seen += 1
                if seen < best:
                    scores[s] = -2.0
                    continue
                ranked = np.sort(found[:seen])
                scores[s] = ranked[seen - best :].mean()
            top = np.argmax(scores)
            if top == 0 or top == depths - 1 or scores[top] < score or min(scores[top - 1], scores[top + 1]) <= -2:
                continue
            bend = scores[top - 1] - 2 * scores[top] + scores[top + 1]
            shift = 0.5 * (scores[top - 1] - scores[top + 1]) / bend if bend < 0 else 0.0
            depth[row, column] = low + (high - low) * (top + shift) / (depths - 1)


@numba.njit(nogil=True, cache=True)
def _correlation(patch, power, other, mask, A, b, m, c, x, y, radius):  # type: ignore[no-untyped-def]
    """Of a patch with the other picture's pixels on the plane, -2 where those are not all there."""
    height, width = other.shape
    total, squares, product, k = 0.0, 0.0, 0.0, 0
    for v in range(-radius, radius + 1):
        py = y + v + 0.5
        for u in range(-radius, radius + 1):
            px = x + u + 0.5
            w = (m[0] * px + m[1] * py + m[2]) / c
            qz = A[2, 0] * px + A[2, 1] * py + A[2, 2] + b[2] * w
            if qz <= 1e-6:
                return -2.0
            qx = (A[0, 0] * px + A[0, 1] * py + A[0, 2] + b[0] * w) / qz - 0.5
            qy = (A[1, 0] * px + A[1, 1] * py + A[1, 2] + b[1] * w) / qz - 0.5
            if not (0 <= qx < width - 1 and 0 <= qy < height - 1):
                return -2.0
            i, j = int(qx), int(qy)
            if u == 0 and v == 0 and not mask[int(qy + 0.5), int(qx + 0.5)]:
                return -2.0
            fx, fy = qx - i, qy - j
            value = (other[j, i] * (1 - fx) + other[j, i + 1] * fx) * (1 - fy) + (
                other[j + 1, i] * (1 - fx) + other[j + 1, i + 1] * fx
            ) * fy
            total += value
            squares += value * value
            product += patch[k] * value
            k += 1
    spread = squares - total * total / k
    if spread <= 1e-9:
        return -1.0
    return product / np.sqrt(spread * power)
