"""Which frames train an avatar and which judge it: decided here, once, for training, evaluation and the report."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray


@dataclass(frozen=True)
class ClipSplit:
    """Rows of one segment's tracks (in frame order) for training and for judging."""

    clip_id: str
    train: NDArray[np.int64]
    held_out: NDArray[np.int64]


def split_rows(good: NDArray[np.bool_], test_fraction: float, split: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(train, held out) rows of a segment of which `good` (N,) says which frames passed the gates.

    The last `test_fraction` of the segment's frames are held out, as in HeadGaS's protocol; of a segment whose split is
    `test` all are. Frames that are not good are in neither.
    """
    first_test = 0 if split == "test" else math.ceil(len(good) * (1.0 - test_fraction))
    rows = np.arange(len(good))
    return rows[good & (rows < first_test)], rows[good & (rows >= first_test)]


def subject_splits(segments: pa.Table, tracks: pa.Table, subject_id: str, test_fraction: float) -> list[ClipSplit]:
    """The splits of a subject's segments that passed, by clip_id."""
    rows = segments.filter(pc.and_(pc.equal(segments["subject_id"], subject_id), segments["passed"])).sort_by("clip_id")
    found = []
    for segment in rows.to_pylist():
        good = tracks.filter(pc.equal(tracks["clip_id"], segment["clip_id"]))["good"].to_numpy(zero_copy_only=False)
        train, held_out = split_rows(good, test_fraction, segment["split"])
        found.append(ClipSplit(segment["clip_id"], train, held_out))
    return found


def subjects_that_passed(segments: pa.Table) -> list[str]:
    """Subjects with at least one segment that passed, sorted."""
    return sorted(set(segments.filter(segments["passed"])["subject_id"].to_pylist()))


def spread(rows: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """At most so many of the rows, evenly, both ends among them."""
    return rows[np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(int))]
