"""Which frames the evaluation looks at."""

from __future__ import annotations

import numpy as np
import torch

from avatar_models.cameras import Camera
from pipelines.evaluation import MAX_PSNR, MEASURES, evenly, first, measured
from pipelines.subject import Shots

CLIPS = [("a", np.arange(10)), ("b", np.arange(100, 130)), ("c", np.arange(5))]


def test_the_first_frames_are_consecutive() -> None:
    assert [rows.tolist() for _, rows in first(CLIPS, 12)] == [list(range(10)), [100, 101], []]
    assert [len(rows) for _, rows in first(CLIPS, 100)] == [10, 30, 5]


def test_frames_spread_over_all_segments_reach_both_ends() -> None:
    found = dict(evenly(CLIPS, 9))
    assert sum(len(rows) for rows in found.values()) == 9
    assert found["a"][0] == 0 and found["c"][-1] == 4 and len(found["b"]) == 6
    assert [rows.tolist() for _, rows in evenly(CLIPS, 1000)] == [rows.tolist() for _, rows in CLIPS]


def shots(mattes: np.ndarray, judged: np.ndarray) -> Shots:
    count, size = len(mattes), mattes.shape[1]
    camera = Camera(torch.eye(3).repeat(count, 1, 1), torch.eye(4).repeat(count, 1, 1), size, size)
    images = np.zeros((count, size, size, 3), np.uint8)
    return Shots(images, mattes, judged, judged, camera, torch.zeros(count, 1), ["ann"] * count, np.arange(count))


def test_what_is_not_judged_does_not_count() -> None:
    judged = np.ones((2, 24, 24), np.bool_)
    judged[:, 16:] = False
    wanted = torch.rand(2, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    made = wanted.clone()
    made[:, :, 16:] = 0.0
    found = measured(made, wanted, shots(np.full((2, 24, 24), 255, np.uint8), judged), 1.0)
    assert set(found) == set(MEASURES)
    assert (found["psnr"] == MAX_PSNR).all() and np.allclose(found["ssim"], 1.0)
    made[:, :, 3, 3] = 1.0 - made[:, :, 3, 3]
    assert (measured(made, wanted, shots(np.full((2, 24, 24), 255, np.uint8), judged), 1.0)["psnr"] < MAX_PSNR).all()


def test_an_empty_matte_is_judged_as_the_whole_picture() -> None:
    wanted, made = torch.zeros(1, 3, 24, 24), torch.full((1, 3, 24, 24), 0.1)
    found = measured(made, wanted, shots(np.zeros((1, 24, 24), np.uint8), np.ones((1, 24, 24), np.bool_)), 1.0)
    assert np.allclose(found["matte_psnr"], 20.0, atol=1e-4)
