"""Reenactment without a model: what a method that was trained has to be better than.

Pictures are (S, S, 3) uint8, landmarks (478, 2) in pixels with centres at +0.5.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import LinearNDInterpolator

Picture = NDArray[np.uint8]


def copy_source(source: Picture, count: int) -> NDArray[np.uint8]:
    """The source picture for each of `count` frames, (count, S, S, 3): nothing moves. Read-only, one picture's memory."""
    return np.broadcast_to(source, (count, *source.shape))


def warp_by_landmarks(source: Picture, source_points: NDArray[np.floating], target_points: NDArray[np.floating]) -> Picture:
    """The source picture with its landmarks pulled to where the target's are: affine in each triangle, the border fixed.

    The triangles are Delaunay's of the target's points with the picture's corners and the middles of its sides, so every
    pixel of the result comes from one place. Targets outside the picture are left out. Raises ValueError for points that are
    not finite or not as many.
    """
    if source_points.shape != target_points.shape:
        raise ValueError(f"landmarks of source and target differ: {source_points.shape} and {target_points.shape}")
    if not (np.isfinite(source_points).all() and np.isfinite(target_points).all()):
        raise ValueError("landmarks are not finite: leave out frames without a face")
    height, width = source.shape[:2]
    inside = ((target_points > 0) & (target_points < (width, height))).all(1)
    border = np.array([(x, y) for x in (0, 0.5, 1) for y in (0, 0.5, 1) if (x, y) != (0.5, 0.5)]) * (width, height)
    at = np.concatenate([target_points[inside], border])
    # How far each pixel comes from, and not where: a face that does not move is then left as it is to the bit.
    away = np.concatenate([(source_points - target_points)[inside], np.zeros_like(border)])
    rows, columns = np.mgrid[:height, :width].astype(np.float64)
    shift = LinearNDInterpolator(at, away)(columns + 0.5, rows + 0.5)
    x, y = (columns + shift[..., 0]).astype(np.float32), (rows + shift[..., 1]).astype(np.float32)
    return np.asarray(cv2.remap(source, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.uint8)
