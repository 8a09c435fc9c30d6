"""The page's videos of tracking: which piece they show, and that the same tables give the same bytes."""

from __future__ import annotations

import base64
from pathlib import Path

import av
import numpy as np
import pytest

from pipelines.overlay import LEFT_OUT
from pipelines.report.charts import BAR, confidence_chart
from pipelines.report.tracking import SIDE, Excerpt, segment_cards, telling_excerpt
from pipelines.subject import read_tables
from tests.pipelines.formats.made import BAD, FRAMES, write_project


def test_the_piece_with_most_frames_left_out_is_shown() -> None:
    good = np.ones(500, bool)
    assert telling_excerpt(good, 25) == Excerpt(0, 100, 2)
    good[300:310] = False
    good[10] = False
    assert telling_excerpt(good, 25) == Excerpt(210, 310, 2)
    assert telling_excerpt(good[:60], 8) == Excerpt(0, 32, 1)
    assert telling_excerpt(good[:3], 0) == Excerpt(0, 3, 1)


def test_a_card_holds_a_video_that_marks_what_is_left_out(tmp_path: Path) -> None:
    write_project(tmp_path)
    data = read_tables(tmp_path)
    (card,), (again,) = (list(segment_cards(data, 1)) for _ in range(2))
    assert card == again
    assert card["clip_id"] == "ann" and card["excerpt"] == "the whole of it"
    (tmp_path / "a.mp4").write_bytes(base64.b64decode(card["video"].removeprefix("data:video/mp4;base64,")))
    with av.open(str(tmp_path / "a.mp4")) as container:
        pictures = [frame.to_ndarray(format="rgb24").astype(int) for frame in container.decode(video=0)]
    assert len(pictures) == FRAMES and pictures[0].shape == (SIDE, SIDE, 3)
    red = [np.abs(picture[0].mean(0) - LEFT_OUT).max() < 25 for picture in pictures]
    assert red == [row == BAD for row in range(FRAMES)]


def test_a_chart_of_confidence_has_a_bar_for_each_moment() -> None:
    svg = confidence_chart(np.array([1.0, 0.5, np.nan, 0.25]), np.array([True, True, False, False]), 2.0, (0.25, 1.0))
    assert f'class="read" d="M0 {BAR}v-{BAR}h1v{BAR}zM1 {BAR}v-20h1v20z"' in svg
    assert f'class="left" d="M3 {BAR}v-10h1v10z"' in svg
    assert 'class="window" x="1.00" y="0" width="3.00"' in svg and "2 of 4 frames are left out" in svg


@pytest.mark.parametrize("count", [1, 161, 1000])
def test_many_moments_share_bars(count: int) -> None:
    svg = confidence_chart(np.full(count, 0.5), np.ones(count, bool), 1.0, (0.0, 1.0))
    assert svg.count("M") == min(count, 160)
