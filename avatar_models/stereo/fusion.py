"""Depths of several views as one cloud of points: those that another view agrees with."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

from avatar_models.stereo.sweep import Array, Array32, Bounds, SweepOptions, View, sweep


def cloud(views: Sequence[View], bounds: Sequence[Bounds], options: SweepOptions, threads: int = 1) -> Array32:
    """Points (N, 3) in the world of the surface that the views show; none where no two agree. A thread sweeps a view."""
    near = [nearest(views, number, options.neighbours) for number in range(len(views))]
    with ThreadPoolExecutor(threads) as pool:
        others = [[views[other] for other in own] for own in near]
        depths = list(pool.map(sweep, views, others, bounds, repeat(options)))
    found = []
    for number, view in enumerate(views):
        points = unprojected(view, depths[number], options.stride)
        agreed = np.zeros(len(points), bool)
        for other in near[number]:
            agreed |= agrees(points, views[other], depths[other], options)
        found.append(points[agreed])
    return np.concatenate(found).astype(np.float32) if found else np.zeros((0, 3), np.float32)


def nearest(views: Sequence[View], number: int, count: int) -> list[int]:
    """The views whose cameras stand nearest to one view's."""
    apart = [float(np.linalg.norm(view.place - views[number].place)) for view in views]
    others = sorted((distance, other) for other, distance in enumerate(apart) if other != number)
    return [other for _, other in others[:count]]


def unprojected(view: View, depth: Array32, stride: int) -> Array:
    """Points (N, 3) in the world of a view's depths on every `stride`-th pixel, without those that are not known."""
    row, column = np.nonzero(np.isfinite(depth))
    pixels = np.stack([column * stride + 0.5, row * stride + 0.5, np.ones(len(row))], 1)
    in_camera = depth[row, column, None].astype(np.float64) * (pixels @ np.linalg.inv(view.K).T)
    return np.asarray((in_camera - view.viewmat[:3, 3]) @ view.viewmat[:3, :3])


def agrees(points: Array, view: View, depth: Array32, options: SweepOptions) -> NDArray[np.bool_]:
    """Which of points (N, 3) a view has found at the same depth: the mean of its four pixels around that have one, by their
    nearness."""
    in_camera = points @ view.viewmat[:3, :3].T + view.viewmat[:3, 3]
    z = np.maximum(in_camera[:, 2], 1e-6)
    pixels = in_camera[:, :2] / z[:, None] * [view.K[0, 0], view.K[1, 1]] + view.K[:2, 2]
    places = (pixels - 0.5) / options.stride
    corner = np.floor(places)
    share = places - corner
    total, weights = np.zeros(len(points)), np.zeros(len(points))
    for down, across in ((0, 0), (0, 1), (1, 0), (1, 1)):
        column, row = (corner + [across, down]).clip(-2, max(depth.shape) + 1).astype(int).T
        inside = (row >= 0) & (row < depth.shape[0]) & (column >= 0) & (column < depth.shape[1])
        own = np.full(len(points), np.nan)
        own[inside] = depth[row[inside], column[inside]]
        nearness = np.abs(1 - across - share[:, 0]) * np.abs(1 - down - share[:, 1])
        nearness[np.isnan(own)] = 0
        total += nearness * np.nan_to_num(own)
        weights += nearness
    known = (weights > 0.25) & (in_camera[:, 2] > 0)
    return np.asarray(known & (np.abs(total - weights * z) < options.agree * weights))
