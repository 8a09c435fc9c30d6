"""Pixels that say something of a head: skin with its colours, and where nobody is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from avatar_models.cameras import Camera, project
from pipelines.frames import StoredFrame
from pipelines.nphm_tracks.pixels import INSIDE, OUTSIDE, SIDE, choose, directions, pixels_of
from pipelines.subject import clip_tracks, read_tables
from pipelines.tracked import clip_landmarks
from tests.pipelines.nphm_tracks.project import CLIPS, make_project


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_project(tmp_path_factory.mktemp("project"))


def landmarks(root: Path, clip: str) -> np.ndarray:
    rows = clip_landmarks(root, [clip]).sort_by("frame")
    return np.array(rows["points"].to_pylist()).reshape(rows.num_rows, -1, 3)[..., :2]


def test_rays_go_through_the_pixels_that_they_have_the_colours_of(root: Path) -> None:
    data = read_tables(root)
    tracks = clip_tracks(data.tracks, CLIPS[0])
    pixels = pixels_of(data.frames, CLIPS[0], tracks, landmarks(root, CLIPS[0]), seed=0)
    assert pixels is not None and pixels.inside.shape == (3, INSIDE, 3) and pixels.outside.shape == (3, OUTSIDE, 3)
    frame = data.frames.decode(CLIPS[0], 1)
    stored = len(frame.image)
    camera = Camera(torch.from_numpy(tracks.K[1:2]), torch.from_numpy(tracks.viewmat[1:2]), stored, stored)
    at = project(pixels.origin[1:2, None] + 0.6 * pixels.inside[1:2], camera)[0].numpy().astype(int)
    shown = frame.image[at[:, 1], at[:, 0]] / 255
    assert np.median(np.abs(shown - pixels.color[1].numpy())) < 0.03
    at = project(pixels.origin[1:2, None] + 0.6 * pixels.outside[1:2], camera)[0].numpy().astype(int)
    assert (frame.matte[at[:, 1], at[:, 0]] < 128).mean() > 0.95
    torch.testing.assert_close(pixels.to_camera, torch.from_numpy(tracks.viewmat[:, :3, :3]))


def test_eyes_and_open_mouths_are_left_out(root: Path) -> None:
    data = read_tables(root)
    points = landmarks(root, CLIPS[0])[0] * SIDE / len(data.frames.decode(CLIPS[0], 0).image)
    white = np.full((SIDE, SIDE, 3), 255, np.uint8)
    frame = StoredFrame(white, np.full((SIDE, SIDE), 255, np.uint8), np.ones((SIDE, SIDE), bool))
    everybody = choose(frame, points, np.random.default_rng(0))
    assert everybody is not None and set(map(tuple, everybody.outside)) == {(0.5, 0.5), (SIDE - 0.5, 0.5)}
    frame.matte[:8] = 0
    chosen = choose(frame, points, np.random.default_rng(0))
    assert chosen is not None
    for iris in (468, 473):
        assert np.linalg.norm(chosen.inside - points[iris], axis=1).min() > 1.0
    assert chosen.outside[:, 1].max() < 8 and (chosen.color == 1).all()
    frame.known[:] = False
    assert choose(frame, points, np.random.default_rng(0)) is None


def test_a_camera_looks_along_its_axis_in_the_middle() -> None:
    K = torch.tensor([[[200.0, 0, 64], [0, 200, 64], [0, 0, 1]]])
    found = directions(torch.tensor([[[64.0, 64.0], [264.0, 64.0]]]), Camera(K, torch.eye(4)[None], 128, 128))
    torch.testing.assert_close(found[0], torch.tensor([[0.0, 0.0, 1.0], [0.5**0.5, 0.0, 0.5**0.5]]))
