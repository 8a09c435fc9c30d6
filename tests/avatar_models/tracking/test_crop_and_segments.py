"""Crops keep their scale and are exact transforms; segments follow the written rules."""

from __future__ import annotations

import numpy as np

from avatar_models.tracking.crop import crop_path, cut_crop, inside_picture, smoothed
from avatar_models.tracking.segments import colour_histogram, histogram_distance, split_segments


def face_at(x: np.ndarray, y: np.ndarray, side: float = 50.0) -> np.ndarray:
    corners = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]]) * side
    return (np.stack([x, y], 1)[:, None] + corners).astype(np.float32)


def test_a_crop_holds_its_scale_and_follows_without_shaking() -> None:
    times = np.arange(50) / 25
    rng = np.random.default_rng(0)
    points = face_at(100 + 20 * times + rng.normal(0, 2, 50), 120 + rng.normal(0, 2, 50))
    path = crop_path(points, times, scale=2.0, smooth_s=0.5, size=64)
    assert path.side == 100 and path.scale == 100 / 64
    assert np.abs(np.diff(path.origins, axis=0)).max() <= 2
    assert np.abs(path.origins[:, 0] + 50 - (100 + 20 * times)).max() < 3


def test_the_transform_takes_crop_pixels_to_source_pixels() -> None:
    path = crop_path(face_at(np.array([80.0]), np.array([90.0])), np.zeros(1), scale=2.0, smooth_s=0.5, size=32)
    points = np.random.default_rng(0).uniform(30, 130, (1, 478, 3)).astype(np.float32)
    x0, y0, scale = path.transforms()[0]
    assert np.allclose(path.to_crop(points)[0, :, :2] * scale + (x0, y0), points[0, :, :2], atol=1e-4)


def test_the_source_picture_is_known_in_crop_pixels() -> None:
    path = crop_path(face_at(np.array([10.0]), np.array([90.0])), np.zeros(1), scale=2.0, smooth_s=0.5, size=32)
    x0, y0, scale = path.transforms()[0]
    left, top, right, bottom = path.picture((120, 160, 3))[0]
    assert np.allclose([scale * left + x0, scale * right + x0], [0, 160], atol=1e-3)
    assert np.allclose([scale * top + y0, scale * bottom + y0], [0, 120], atol=1e-3)


def test_a_crop_beyond_the_border_repeats_it_and_says_so() -> None:
    picture = np.arange(100, dtype=np.uint8).reshape(10, 10, 1).repeat(3, 2)
    crop = cut_crop(picture, np.array([-4, 2]), 8, 8)
    assert (crop[:, 0] == crop[:, 4]).all()
    inside = inside_picture(picture.shape, np.array([-4, 2]), 8, 8)
    assert inside is not None and not inside[:, :4].any() and inside[:, 4:].all()
    assert inside_picture(picture.shape, np.array([1, 1]), 8, 8) is None


def test_smoothing_leaves_a_straight_line_alone() -> None:
    times = np.array([0.0, 0.1, 0.15, 0.4, 0.5, 0.9])
    line = np.stack([3 * times + 1, -times], 1)
    assert np.allclose(smoothed(line, times, 0.3), line)


def spans(found: str, cuts: str = "", gap: float = 0.25) -> list[tuple[int, int]]:
    """Segments of a clip at 10 frames/s; 'x' is a frame with a face, '|' marks a frame that a cut lies before."""
    marks = [mark == "|" for mark in cuts.ljust(len(found))]
    segments = split_segments(np.arange(len(found)) / 10, [letter == "x" for letter in found], marks, gap)
    return [(segment.start, segment.stop) for segment in segments]


def test_segments_follow_the_rules() -> None:
    assert spans("xxxxxx") == [(0, 6)]
    assert spans("..xxxx..") == [(2, 6)]
    assert spans("xxx.xxx") == [(0, 7)]  # a short loss is a gap
    assert spans("xxx....xxx") == [(0, 3), (7, 10)]  # a long one splits
    assert spans("xxxxxx", "   |  ") == [(0, 3), (3, 6)]  # a cut splits
    assert spans("......") == []


def test_a_cut_is_far_in_colours_and_motion_is_not() -> None:
    y, x = np.mgrid[0:80, 0:80]
    scene = np.stack([x * 3, y * 3, x + y], -1).astype(np.uint8)
    moved = np.roll(scene, 3, 1)
    other = 255 - scene // 3
    assert histogram_distance(colour_histogram(scene), colour_histogram(moved)) < 0.15
    assert histogram_distance(colour_histogram(scene), colour_histogram(other)) > 0.5
