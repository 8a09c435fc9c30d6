"""Stored frames: which of their pixels the video shows."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.frames import StoredFrame, inside, shrunk


def test_pixels_are_known_that_lie_wholly_in_the_picture() -> None:
    known = inside([-3.0, 1.5, 6.0, 20.0], 8)
    assert known[:, :6].any(axis=0).all() and not known[:, 6:].any()
    assert not known[:2].any() and known[2:, :6].all()


@pytest.mark.parametrize("picture", [[0.0, 0.0, 8.0, 8.0], [-1e-4, 1e-4, 8.0001, 7.9999]])
def test_a_picture_as_large_as_the_crop_is_known_to_its_last_pixel(picture: list[float]) -> None:
    assert inside(picture, 8).all()


def test_a_smaller_pixel_is_known_where_all_it_is_made_of_is() -> None:
    known = np.ones((8, 8), np.bool_)
    known[:, 5:] = False
    frame = shrunk(StoredFrame(np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.uint8), known), 4)
    assert frame.known[:, :2].all() and not frame.known[:, 2:].any()
