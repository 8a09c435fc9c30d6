"""Random variation over points in space that follows from a seed alone: smooth noise and scattered spots.

Both live on a lattice of unit cells whose corners get their numbers from an integer hash, so that a point's value depends on
nothing but the point and the seed. Scale the points to scale the pattern, one axis alone to draw it out into strands.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def smooth_noise(points: Array, seed: int) -> Array:
    """Values (N,) about 0 with a deviation of about 1, changing over about a unit, at points (N, 3)."""
    found = np.empty(len(points))
    _smooth_noise(np.ascontiguousarray(points, np.float64), seed, found)
    return found


def spots(points: Array, seed: int, share: float, radius: float) -> Array:
    """How deep (N,) in [0, 1] points (N, 3) lie in soft balls: one in this share of the cells, no wider than `radius` < 0.5."""
    found = np.zeros(len(points))
    _spots(np.ascontiguousarray(points, np.float64), seed, share, radius, found)
    return found


@numba.njit(nogil=True, cache=True)
def _number(i, j, k, seed):  # type: ignore[no-untyped-def]
    """In [0, 1), from four integers: a 64-bit mix as splitmix64 ends with."""
    h = np.uint64(i) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(j) * np.uint64(0xC2B2AE3D27D4EB4F)
    h += np.uint64(k) * np.uint64(0x165667B19E3779F9) + np.uint64(seed) * np.uint64(0xD6E8FEB86659FD93)
    h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    h ^= h >> np.uint64(31)
    return np.float64(h >> np.uint64(11)) / 9007199254740992.0


@numba.njit(nogil=True, cache=True)
def _smooth_noise(points, seed, found):  # type: ignore[no-untyped-def]
    for n in range(len(points)):
        x, y, z = points[n]
        i, j, k = int(np.floor(x)), int(np.floor(y)), int(np.floor(z))
        x, y, z = x - i, y - j, z - k
        x, y, z = x * x * (3 - 2 * x), y * y * (3 - 2 * y), z * z * (3 - 2 * z)
        total = 0.0
        for corner in range(8):
            a, b, c = corner & 1, (corner >> 1) & 1, corner >> 2
            weight = (x if a else 1 - x) * (y if b else 1 - y) * (z if c else 1 - z)
            total += weight * _number(i + a, j + b, k + c, seed)
        found[n] = (total - 0.5) * 6.0


@numba.njit(nogil=True, cache=True)
def _spots(points, seed, share, radius, found):  # type: ignore[no-untyped-def]
    for n in range(len(points)):
        x, y, z = points[n]
        i, j, k = int(np.floor(x)), int(np.floor(y)), int(np.floor(z))
        for a in range(i - 1, i + 2):
            for b in range(j - 1, j + 2):
                for c in range(k - 1, k + 2):
                    if _number(a, b, c, seed) >= share:
                        continue
                    dx = x - a - _number(a, b, c, seed + 1)
                    dy = y - b - _number(a, b, c, seed + 2)
                    dz = z - c - _number(a, b, c, seed + 3)
                    size = radius * (0.4 + 0.6 * _number(a, b, c, seed + 4))
                    near = 1.0 - (dx * dx + dy * dy + dz * dz) / (size * size)
                    if near > found[n]:
                        found[n] = near
