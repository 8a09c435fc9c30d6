"""One segment's frames side by side, and the frames without a face between them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest

from pipelines import tables
from pipelines.subject import UnknownSegment, read_tables
from pipelines.tables import SchemaError
from pipelines.tracked import LANDMARKS_FILE, Moment, TrackedSegment, moments_of_crops, rate, read_tracked
from tests.pipelines.formats.made import FRAMES, detected, write_project


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write_project(tmp_path)
    return tmp_path


def read(project: Path) -> TrackedSegment:
    (segment,) = read_tracked(read_tables(project), ["ann"])
    return segment


def test_the_fitted_landmarks_are_where_a_perfect_detector_sees_them(project: Path) -> None:
    segment = read(project)
    assert len(segment) == FRAMES and segment.detected == pytest.approx(detected(), abs=1e-3)
    for row in (0, 7):
        assert segment.posed(row)[1] == pytest.approx(detected()[row], abs=1e-2)


def timed(segment: TrackedSegment, times: list[float], frames: list[int]) -> TrackedSegment:
    return replace(segment, times=np.array(times), clip=replace(segment.clip, frames=np.array(frames)))


def test_frames_without_a_face_are_counted_by_the_usual_interval(project: Path) -> None:
    moments = moments_of_crops(timed(read(project), [0.0, 0.1, 0.2, 0.51, 0.6], [0, 1, 2, 5, 6]))
    assert [moment.row for moment in moments] == [0, 1, 2, None, None, 3, 4]
    assert [moment.time for moment in moments] == pytest.approx([0, 0.1, 0.2, 0.303, 0.407, 0.51, 0.6], abs=1e-3)
    assert rate(moments) == pytest.approx(10)


def test_a_forged_time_stamp_makes_no_more_frames_than_there_are(project: Path) -> None:
    moments = moments_of_crops(timed(read(project), [0.0, 0.1, 0.2, 3e9], [0, 1, 2, 3]))
    assert [moment.row for moment in moments] == [0, 1, 2, 3]
    still = moments_of_crops(timed(read(project), [1.0, 1.0, 1.0], [0, 1, 2]))
    assert [moment.row for moment in still] == [0, 1, 2] and rate(still) == 0 and rate([Moment(0, 0)]) == 0


def test_what_does_not_fit_together_is_told(project: Path) -> None:
    with pytest.raises(UnknownSegment, match="Did you mean 'ann'"):
        list(read_tracked(read_tables(project), ["ane"]))
    with pytest.raises(SchemaError, match="has no tracks of bob. `dvc repro` makes them again"):
        list(read_tracked(read_tables(project), ["bob"]))
    path = project / LANDMARKS_FILE
    landmarks = tables.read_table(path, tables.LANDMARKS)
    tables.write_table(landmarks.filter(pc.not_equal(landmarks["frame"], 9)), tables.LANDMARKS, path)
    with pytest.raises(SchemaError, match="ann: its tracks and its landmarks are of different runs"):
        read(project)
    path.write_bytes(b"PAR1 nothing")
    with pytest.raises(SchemaError, match="damaged"):
        read(project)
    path.unlink()
    with pytest.raises(SchemaError, match=r"landmarks.parquet: not found. `dvc repro` makes it"):
        read(project)
