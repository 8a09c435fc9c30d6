"""Which frames the evaluation looks at."""

from __future__ import annotations

import numpy as np

from pipelines.evaluation import evenly, first

CLIPS = [("a", np.arange(10)), ("b", np.arange(100, 130)), ("c", np.arange(5))]


def test_the_first_frames_are_consecutive() -> None:
    assert [rows.tolist() for _, rows in first(CLIPS, 12)] == [list(range(10)), [100, 101], []]
    assert [len(rows) for _, rows in first(CLIPS, 100)] == [10, 30, 5]


def test_frames_spread_over_all_segments_reach_both_ends() -> None:
    found = dict(evenly(CLIPS, 9))
    assert sum(len(rows) for rows in found.values()) == 9
    assert found["a"][0] == 0 and found["c"][-1] == 4 and len(found["b"]) == 6
    assert [rows.tolist() for _, rows in evenly(CLIPS, 1000)] == [rows.tolist() for _, rows in CLIPS]
