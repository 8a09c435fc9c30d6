"""Which frames train and which judge."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from pipelines.splits import split_rows, subject_splits, subjects_that_passed


def test_the_last_frames_are_held_out_and_bad_ones_are_in_neither() -> None:
    good = np.array([True, True, False, True, True, True, True, True, False, True])
    train, held_out = split_rows(good, 0.2, "train")
    assert train.tolist() == [0, 1, 3, 4, 5, 6, 7] and held_out.tolist() == [9]


@pytest.mark.parametrize(("fraction", "trained"), [(0.0, 5), (1.0, 0), (0.5, 3)])
def test_no_frame_is_lost_or_used_twice(fraction: float, trained: int) -> None:
    train, held_out = split_rows(np.ones(5, bool), fraction, "train")
    assert [*train, *held_out] == [0, 1, 2, 3, 4] and len(train) == trained


def test_a_test_segment_is_held_out_whole() -> None:
    train, held_out = split_rows(np.ones(4, bool), 0.25, "test")
    assert len(train) == 0 and len(held_out) == 4


def test_a_subject_has_the_splits_of_its_segments_that_passed() -> None:
    segments = pa.table(
        {
            "clip_id": ["b", "a", "c", "d"],
            "subject_id": ["ann", "ann", "ann", "bob"],
            "split": ["train"] * 4,
            "passed": [True, True, False, False],
        }
    )
    tracks = pa.table({"clip_id": ["a"] * 2 + ["b"] * 4, "good": [True] * 6})
    found = subject_splits(segments, tracks, "ann", 0.5)
    assert [(split.clip_id, len(split.train), len(split.held_out)) for split in found] == [("a", 1, 1), ("b", 2, 2)]
    assert subjects_that_passed(segments) == ["ann"]
