"""Noise and spots against the same lattice written out in Python's own integers."""

from __future__ import annotations

import numpy as np

from avatar_models.heads.noise import smooth_noise, spots

WORD = (1 << 64) - 1


def number(i: int, j: int, k: int, seed: int) -> float:
    factors = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93)
    h = sum(n * factor for n, factor in zip((i, j, k, seed), factors, strict=True)) & WORD
    h = (h ^ (h >> 30)) * 0xBF58476D1CE4E5B9 & WORD
    h = (h ^ (h >> 27)) * 0x94D049BB133111EB & WORD
    return ((h ^ (h >> 31)) >> 11) / 2**53


def test_noise_is_the_smoothed_lattice() -> None:
    points = np.random.default_rng(0).uniform(-5, 5, (50, 3))
    expected = []
    for point in points:
        cell = np.floor(point).astype(int)
        t = point - cell
        s = t * t * (3 - 2 * t)
        total = 0.0
        for corner in np.ndindex(2, 2, 2):
            weight = np.prod(np.where(corner, s, 1 - s))
            total += weight * number(*(int(c) for c in cell + corner), 7)
        expected.append((total - 0.5) * 6)
    np.testing.assert_allclose(smooth_noise(points, 7), expected, atol=1e-12)


def test_noise_is_about_nought_with_a_deviation_of_about_one() -> None:
    values = smooth_noise(np.random.default_rng(1).uniform(-50, 50, (20_000, 3)), 3)
    assert abs(values.mean()) < 0.05 and 0.7 < values.std() < 1.2
    assert abs(np.corrcoef(values, smooth_noise(np.random.default_rng(1).uniform(-50, 50, (20_000, 3)), 4))[0, 1]) < 0.05


def test_spots_are_the_nearest_balls() -> None:
    points = np.random.default_rng(2).uniform(-3, 3, (60, 3))
    share, radius = 0.6, 0.49
    expected = np.zeros(len(points))
    for i, j, k in np.ndindex(12, 12, 12):
        cell = (i - 6, j - 6, k - 6)
        if number(*cell, 5) < share:
            middle = np.add(cell, [number(*cell, 5 + n) for n in (1, 2, 3)])
            size = radius * (0.4 + 0.6 * number(*cell, 9))
            expected = np.maximum(expected, 1 - ((points - middle) ** 2).sum(1) / size**2)
    np.testing.assert_allclose(spots(points, 5, share, radius), expected, atol=1e-12)
    assert (expected > 0).sum() > 3
