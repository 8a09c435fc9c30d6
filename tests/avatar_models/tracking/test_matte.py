"""Mattes that follow a picture's edges."""

from __future__ import annotations

import numpy as np
import pytest

from avatar_models.tracking.matte import to_edges

SIDE = 256


def a_round_head() -> tuple[np.ndarray, np.ndarray]:
    """A disc before a wall, with some grain: the picture (SIDE, SIDE, 3), and where the disc is."""
    y, x = np.mgrid[:SIDE, :SIDE]
    disc = (x - 128) ** 2 + (y - 128) ** 2 < 80**2
    grain = np.random.default_rng(0).normal(0, 2, (SIDE, SIDE, 3))
    picture = np.where(disc[..., None], [180.0, 130.0, 110.0], [60.0, 70.0, 90.0]) + grain
    return picture.clip(0, 255).astype(np.uint8), disc


@pytest.mark.parametrize("shift", [-2, 2])
def test_a_mask_that_is_off_by_two_pixels_comes_nearer_to_the_edge(shift: int) -> None:
    picture, disc = a_round_head()
    rough = np.roll(disc, shift, axis=1).astype(np.float32)
    drawn = to_edges(picture, rough)
    assert np.abs(drawn - disc).mean() < 0.6 * np.abs(rough - disc).mean()


def test_sure_places_stay_sure() -> None:
    picture, disc = a_round_head()
    drawn = to_edges(picture, disc.astype(np.float32))
    assert drawn[128, 128] == 1.0 and drawn[2, 2] == 0.0
    assert drawn.dtype == np.float32 and drawn.min() >= 0.0 and drawn.max() <= 1.0
