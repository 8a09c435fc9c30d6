"""Cutting a clip into stretches in which one face is followed without a break."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

HISTOGRAM_BINS = 8  # for each of R, G, B
HISTOGRAM_SAMPLES = 160  # of the larger side: cuts change the whole picture, so a grid of pixels shows them


def colour_histogram(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Normalised joint RGB histogram (8, 8, 8) of a grid of the picture's pixels."""
    step = max(1, max(picture.shape[:2]) // HISTOGRAM_SAMPLES)
    grid = np.ascontiguousarray(picture[::step, ::step])
    bins = cv2.calcHist([grid], [0, 1, 2], None, [HISTOGRAM_BINS] * 3, [0, 256] * 3)
    return (bins / bins.sum()).astype(np.float32)


def histogram_distance(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Bhattacharyya (Hellinger) distance of two normalised histograms: 0 for equal ones, 1 for disjoint ones."""
    return float(cv2.compareHist(a.ravel(), b.ravel(), cv2.HISTCMP_BHATTACHARYYA))


@dataclass(frozen=True)
class Segment:
    """Rows [start, stop) of a clip's kept frames; its first and last row show the face."""

    start: int
    stop: int
    coverage: float  # share of the rows that show the face


def split_segments(
    times: Sequence[float] | NDArray[np.float64],
    found: Sequence[bool] | NDArray[np.bool_],
    cuts: Sequence[bool] | NDArray[np.bool_],
    max_gap_s: float,
) -> list[Segment]:
    """Segments of a clip from its frames' times (N,), whether the face was found (N,) and whether a cut lies before.

    A cut ends a segment. A face lost for at most max_gap_s leaves a gap inside the segment, a longer loss ends it.
    Frames without a face at either end belong to no segment.
    """
    rows = np.flatnonzero(np.asarray(found, bool))
    if not len(rows):
        return []
    times = np.asarray(times, np.float64)
    shot = np.cumsum(np.asarray(cuts, bool))
    new = (np.diff(shot[rows]) > 0) | (np.diff(times[rows]) > max_gap_s)
    # Neighbouring frames are never a gap, however slow the camera.
    new &= (np.diff(shot[rows]) > 0) | (np.diff(rows) > 1)
    groups = np.split(rows, np.flatnonzero(new) + 1)
    return [Segment(int(group[0]), int(group[-1]) + 1, len(group) / int(group[-1] - group[0] + 1)) for group in groups]
