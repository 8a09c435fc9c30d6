"""What is drawn lies where an independent projection says that it does."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from avatar_models.heads.procedural import procedural_head
from pipelines.lettering import fitted, text_width, write
from pipelines.overlay import (
    DETECTED,
    GOOD,
    INK,
    LEFT_OUT,
    MODEL,
    Picture,
    clay_of,
    draw_head,
    draw_points,
    draw_tracked,
    nothing_found,
    sheet,
    source_panel,
    timeline,
)
from pipelines.subject import read_tables
from pipelines.tracked import FittedHead, TrackedSegment, read_tracked
from tests.pipelines.formats.made import BAD, SIDE, write_project

GRAY = 120


@pytest.fixture(scope="module")
def ann(tmp_path_factory: pytest.TempPathFactory) -> TrackedSegment:
    root = tmp_path_factory.mktemp("project")
    write_project(root)
    (segment,) = read_tracked(read_tables(root), ["ann"])
    return segment


def plain(size: int, level: int = GRAY) -> Picture:
    return np.full((size, size, 3), level, np.uint8)


def silhouette(segment: TrackedSegment, row: int, size: int) -> np.ndarray:
    """(size, size) where the head covers the picture: every triangle projected by hand and filled by OpenCV."""
    vertices, _ = segment.posed(row)
    camera = vertices @ segment.clip.viewmat[row, :3, :3].T + segment.clip.viewmat[row, :3, 3]
    pixels = camera @ segment.clip.K[row].T
    pixels = pixels[:, :2] / pixels[:, 2:] * size / segment.side
    mask = np.zeros((size, size), np.uint8)
    for triangle in pixels[segment.head.faces]:
        cv2.fillConvexPoly(mask, np.round((triangle - 0.5) * 256).astype(np.int32), 1, shift=8)
    return mask > 0


@pytest.mark.parametrize("size", [SIDE, 200])
def test_the_mesh_covers_the_head_and_nothing_else(ann: TrackedSegment, size: int) -> None:
    K = ann.clip.K[4] * [[size / SIDE], [size / SIDE], [1]]
    drawn = draw_head(plain(size, 0), clay_of(ann.head), ann.posed(4)[0], K, ann.clip.viewmat[4])
    changed, expected = drawn.any(-1), silhouette(ann, 4, size)
    inner, outer = (change(expected.astype(np.uint8), np.ones((5, 5))) > 0 for change in (cv2.erode, cv2.dilate))
    assert expected.mean() > 0.2 and changed[inner].all() and not changed[~outer].any()


def test_the_picture_shows_through_the_mesh(ann: TrackedSegment) -> None:
    inner = cv2.erode(silhouette(ann, 0, SIDE).astype(np.uint8), np.ones((5, 5))) > 0
    dark, light = (
        draw_head(plain(SIDE, level), clay_of(ann.head), ann.posed(0)[0], ann.clip.K[0], ann.clip.viewmat[0])[inner].astype(int)
        for level in (60, 160)
    )
    assert (light - dark).min() > 10 and (light - dark).max() < 60


def test_a_dot_covers_its_disc() -> None:
    picture = np.zeros((40, 40, 3), np.uint8)
    draw_points(picture, np.array([[17.3, 22.8], [-50, 3], [39.9, 0.1], [1e9, 1e9]]), (255, 0, 0), 3.0)
    lone = picture[10:, :30, 0] / 255.0
    y, x = np.mgrid[10:40, 0:30] + 0.5
    assert lone.sum() == pytest.approx(np.pi * 3.0**2, rel=0.03)
    assert ((x * lone).sum() / lone.sum(), (y * lone).sum() / lone.sum()) == pytest.approx((17.3, 22.8), abs=0.05)
    assert picture[0, 39, 0] == 255 and picture[..., 1:].max() == 0


def test_both_kinds_of_landmarks_are_where_they_are(ann: TrackedSegment) -> None:
    size = 480
    shifted = TrackedSegment(**{**ann.__dict__, "detected": ann.detected + np.float32([6, 0])})  # 30 pixels of 480
    drawn = draw_tracked(plain(size), shifted, 4, clay_of(ann.head)).astype(int)
    scale = size / SIDE
    corners = [33, 263, 1, 152]  # corners of the eyes, the nose, the chin
    for color, points in ((DETECTED, shifted.detected[4]), (MODEL, ann.detected[4])):
        for x, y in points[corners] * scale:
            near = drawn[int(y) - 1 : int(y) + 2, int(x) - 1 : int(x) + 2]
            assert np.abs(near - color).max(-1).min() < 30, (color, x, y)


def test_a_frame_that_training_does_not_read_is_framed_in_red(ann: TrackedSegment) -> None:
    clay = clay_of(ann.head)
    bad, good = (draw_tracked(plain(160), ann, row, clay) for row in (BAD, 4))
    for edge in (bad[:2], bad[-2:], bad[:, :2], bad[:, -2:]):
        assert (edge == LEFT_OUT).all()
    assert (good[0] == GRAY).all()


def test_eyes_have_irises(ann: TrackedSegment) -> None:
    head = procedural_head()
    clay = clay_of(FittedHead(head, ann.clip))
    ball = head.masks["eyes_left"].numpy()
    dark = ball & (clay.colors.max(1) < 0.5)
    assert 0 < dark.sum() < ball.sum() and head.rig.template.numpy()[dark, 2].min() > head.rig.template.numpy()[ball, 2].mean()


def test_the_square_of_a_crop_that_reaches_out_is_shown_whole() -> None:
    squares = np.array([[-40.0, 10, 100], [-20.0, 30, 100]])
    panel = source_panel((200, 100), squares, 220)
    shown = panel.show(plain(10, 200).repeat(10, 0).repeat(20, 1), (-40.0, 10, 100), INK)
    assert shown.shape == (220, panel.width, 3)
    assert panel.scale == pytest.approx(min(220 / 130, 16 / 9 * 220 / 240))
    marked = np.argwhere((shown == INK).all(-1))
    top, left = 10 * panel.scale + panel.top, -40 * panel.scale + panel.left
    assert marked.min(0) == pytest.approx((top, left), abs=2)
    assert marked.max(0) == pytest.approx((top + 100 * panel.scale, left + 100 * panel.scale), abs=2)


def test_the_timeline_is_as_high_as_the_confidence_and_red_where_frames_are_left_out() -> None:
    strip = timeline(np.array([1.0, 0.5, np.nan, 0.2]), np.array([True, True, False, False]), 40, 21)
    high = [(strip[:, x] == color).all(-1).sum() for x, color in ((5, GOOD), (15, GOOD), (25, GOOD), (35, LEFT_OUT))]
    assert high == [21, 11, 0, 5]
    squeezed = timeline(np.array([0.9] * 99 + [0.1]), np.array([True] * 99 + [False]), 10, 21)
    assert (squeezed[-1, -1] == LEFT_OUT).all() and (squeezed[-1, -2] == GOOD).all()


def test_a_sheet_marks_the_moment_and_keeps_text_inside() -> None:
    page = sheet(512, 512, np.full(10, 0.9), np.ones(10, bool), with_source=False)
    filled = page.filled(
        [nothing_found(512, 512)], 7, "a" * 200, ("left out of training", LEFT_OUT), [("confidence 0.90", INK)]
    )
    assert filled.shape == page.base.shape and filled.shape[0] % 2 == 0
    x, y, width, height = page.strip
    assert (filled[y + height // 2, x + round(0.75 * width) - 1] == INK).all()
    assert (filled[:, :2] == page.base[:, :2])[513:].all() and (filled[:, -2:] == page.base[:, -2:])[513:].all()


def test_long_names_are_cut_and_text_at_the_border_is_cut_off(tmp_path: Path) -> None:
    assert fitted("short", 14, 100) == "short"
    cut = fitted("a name that is far too long", 14, 80)
    assert cut.startswith("a na") and cut.endswith("…") and text_width(cut, 14) <= 80
    picture = plain(20)
    for at in ((15, 15), (-3, -3), (50, 5), (0, -60)):
        write(picture, "wide text", at, 14, INK)
    assert picture.shape == (20, 20, 3)
