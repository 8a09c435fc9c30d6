"""Figures that say how far a tracked frame, and a clip, can be trusted, and the verdict from limits on them.

Distances are over the inter-ocular distance, so that they mean the same for a small and a large face.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Landmark numbers of MediaPipe's face mesh.
RIGHT_EYE_CORNERS, LEFT_EYE_CORNERS = (33, 133), (362, 263)
RIGHT_EYE = np.array([33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7])
LEFT_EYE = np.array([263, 466, 388, 387, 386, 385, 384, 398, 362, 382, 381, 380, 374, 373, 390, 249])
"""Contours of the eyes' openings."""
IRISES = np.arange(468, 478)
LIPS = np.array(
    [78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 95, 88, 178, 87, 14, 317, 402, 318, 324,
     61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 185, 40, 39, 37, 0, 267, 269, 270, 409]
)  # fmt: skip
FACE_OVAL = np.array(
    [10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152, 148, 176, 149, 150, 136,
     172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109]
)  # fmt: skip
INNER = np.setdiff1d(np.arange(478), FACE_OVAL)
"""Landmarks whose place on the face does not depend on the view."""


def inter_ocular(points: NDArray[np.floating]) -> Array:
    """Distance (N,) between the middles of the eyes of landmarks (N, 478, 2 or 3), in their unit, at least 1."""
    right = points[:, RIGHT_EYE_CORNERS, :2].mean(1)
    left = points[:, LEFT_EYE_CORNERS, :2].mean(1)
    return np.maximum(np.linalg.norm(left - right, axis=-1), 1.0).astype(np.float64)


def reprojection_error(projected: NDArray[np.floating], observed: NDArray[np.floating]) -> Array:
    """Median distance (N,) of projected to detected landmarks (N, 478, 2), the face's contour left out."""
    distance = np.linalg.norm(projected[:, INNER, :2] - observed[:, INNER, :2], axis=-1)
    return np.median(distance, axis=1) / inter_ocular(observed)


def jitter(observed: NDArray[np.floating], rows: NDArray[np.int64]) -> Array:
    """Median norm (N,) of the landmarks' second difference over time, (N, 478, 2); `rows` (N,) numbers the kept frames.

    0 for the first and last frame and beside gaps, where there is none.
    """
    result = np.zeros(len(observed))
    if len(observed) >= 3:
        second = observed[:-2, INNER, :2] - 2 * observed[1:-1, INNER, :2] + observed[2:, INNER, :2]
        in_row = (np.diff(rows)[:-1] == np.diff(rows)[1:]).astype(np.float64)
        result[1:-1] = np.median(np.linalg.norm(second, axis=-1), axis=1) / inter_ocular(observed)[1:-1] * in_row
    return result


def coverage(observed: NDArray[np.floating], size: int) -> Array:
    """Share (N,) of the landmarks (N, 478, 2) that lie inside the crop of size x size."""
    inside = (observed[..., :2] >= 0) & (observed[..., :2] <= size)
    return inside.all(-1).mean(1)


@dataclass(frozen=True)
class Limits:
    """What a frame and a clip must reach; see params.yaml, preprocess.gates."""

    max_reprojection: float
    max_jitter: float
    min_coverage: float
    min_confidence: float
    min_frames: int


def good_frames(reprojection: NDArray[np.floating], confidence: NDArray[np.floating], limits: Limits) -> NDArray[np.bool_]:
    """Which frames (N,) training may read."""
    return (reprojection <= limits.max_reprojection) & (confidence >= limits.min_confidence)


def clip_verdict(good: NDArray[np.bool_], frame_jitter: Array, face_coverage: float, limits: Limits) -> str:
    """Empty for a clip that passed, else the gate that it failed with its figure.

    `face_coverage` is the share of the clip's frames in which the face was found.
    """
    if face_coverage < limits.min_coverage:
        return f"coverage: the face was found in {face_coverage:.0%} of the frames, {limits.min_coverage:.0%} are wanted"
    median = float(np.median(frame_jitter))
    if median > limits.max_jitter:
        return f"jitter: {median:.4f} of the inter-ocular distance, at most {limits.max_jitter:g} is allowed"
    if good.sum() < limits.min_frames:
        return f"frames: {good.sum()} good frames of {len(good)}, {limits.min_frames} are wanted"
    return ""
