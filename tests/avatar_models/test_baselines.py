"""Baselines against closed cases and scikit-image's piecewise affine warp."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from skimage.transform import PiecewiseAffineTransform, warp

from avatar_models.baselines import copy_source, warp_by_landmarks

SIZE = 128


def picture(seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).random((10, 10, 3)).astype(np.float32)
    return (cv2.resize(noise, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC).clip(0, 1) * 255).astype(np.uint8)


def points(seed: int = 0) -> np.ndarray:
    """478 points in the picture's middle."""
    return np.random.default_rng(seed).uniform(34, 94, (478, 2))


def test_a_copy_is_the_source_in_every_frame() -> None:
    frames = copy_source(picture(), 4)
    assert frames.shape == (4, SIZE, SIZE, 3) and all((frame == picture()).all() for frame in frames)


def test_points_that_stay_leave_the_picture_as_it_is() -> None:
    assert (warp_by_landmarks(picture(), points(), points()) == picture()).all()


def test_points_that_move_take_the_picture_with_them() -> None:
    made = warp_by_landmarks(picture(), points(), points() + (5, -3))
    assert (made[40:80, 50:90] == picture()[43:83, 45:85]).all()


def test_the_border_stays() -> None:
    moved = warp_by_landmarks(picture(), points(), points() + (12, 9)).astype(int)
    rim = np.ones((SIZE, SIZE), bool)
    rim[1:-1, 1:-1] = False
    # the rim's centres lie half a pixel inside the border
    assert np.abs(moved - picture())[rim].max() < 8 and np.abs(moved - picture())[~rim].max() > 80


def test_it_is_scikit_images_warp() -> None:
    source_points, target_points = points(), points() + np.random.default_rng(1).normal(0, 1.5, (478, 2))
    border = np.array([(x, y) for x in (0, 64, 128) for y in (0, 64, 128) if (x, y) != (64, 64)], float)
    to_source = PiecewiseAffineTransform()
    # its pixel centres are whole numbers
    assert to_source.estimate(np.concatenate([target_points, border]) - 0.5, np.concatenate([source_points, border]) - 0.5)
    wanted = warp(picture(), to_source, mode="edge", preserve_range=True)
    found = warp_by_landmarks(picture(), source_points, target_points)
    inner = np.s_[1:-1, 1:-1]
    assert np.abs(found[inner] - wanted[inner]).max() < 4  # OpenCV interpolates at 1/32 of a pixel
    assert np.abs(wanted[inner] - picture()[inner]).max() > 20


def test_a_target_outside_the_picture_does_no_harm() -> None:
    wild = points()
    wild[3] = (300, -40)
    assert (warp_by_landmarks(picture(), points(), wild) == picture()).all()


def test_points_that_do_not_fit_are_refused() -> None:
    gone = points()
    gone[7] = np.nan
    with pytest.raises(ValueError, match="landmarks are not finite: leave out frames without a face"):
        warp_by_landmarks(picture(), points(), gone)
    with pytest.raises(ValueError, match=r"differ: \(478, 2\) and \(477, 2\)"):
        warp_by_landmarks(picture(), points(), points()[1:])
