"""The fit to several cameras against made-up people seen from known places."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from avatar_models.cameras import Camera, project
from avatar_models.people import camera_for, make_person, perform, viewmats
from avatar_models.rotations import axis_angle_to_matrix
from avatar_models.tracking.fit import View, ViewsFit, fit_views
from tests.avatar_models.tracking.test_fit import HEAD, SIZE, angles, whole_picture

FRAMES = 12


def around(degrees: float) -> np.ndarray:
    """World to camera (4, 4) of a camera that turns about the head; the world is that of the camera in front."""
    distance = camera_for(SIZE)[1]
    turn = axis_angle_to_matrix(torch.tensor([0.0, np.radians(degrees), 0.0], dtype=torch.float64)).numpy()
    viewmat = np.eye(4)
    viewmat[:3, :3] = turn
    viewmat[:3, 3] = np.array([0, 0, distance]) - turn @ np.array([0, 0, distance])
    return viewmat


def made_up_views(seed: int = 4) -> tuple[list[View], np.ndarray, np.ndarray]:
    """Exact landmarks in three cameras, the true poses (N, 4, 4) in the world and the identity."""
    person, performance = make_person(seed), perform(seed, FRAMES, 5.0)
    K, distance = camera_for(SIZE)
    poses = viewmats(performance, distance)
    arguments = (performance.expression, np.zeros((FRAMES, 3)), performance.jaw, performance.eyes)
    vertices = HEAD.vertices(torch.tensor(person.identity)[None].double(), *(torch.tensor(a).double() for a in arguments))
    views = []
    for degrees in (-35.0, 0.0, 35.0):
        viewmat = around(degrees)
        camera = Camera(torch.tensor(K).expand(FRAMES, 3, 3), torch.tensor(viewmat @ poses), SIZE, SIZE)
        points = project(HEAD.landmarks(vertices), camera).numpy().astype(np.float32)
        views.append(View(points, whole_picture(FRAMES), np.arange(FRAMES), K, viewmat))
    return views, poses, person.identity


def check(fit: ViewsFit, poses: np.ndarray, identity: np.ndarray) -> None:
    assert np.median(angles(fit.viewmat[:, :3, :3], poses[:, :3, :3])) < 0.1
    assert np.median(np.abs(fit.viewmat[:, :3, 3] - poses[:, :3, 3])) < 0.0005
    hidden = [HEAD.identity_names.index(name) for name in ("hairVolume", "neckWidth")]  # no landmark lies there
    assert np.median(np.abs(np.delete(fit.identity - identity, hidden))) < 0.1


def test_exact_landmarks_give_back_the_head_in_the_world() -> None:
    views, poses, identity = made_up_views()
    fit = fit_views(HEAD, views, iterations=15, smoothness=0.0)
    check(fit, poses, identity)
    for view, own in zip(views, fit.views, strict=True):
        assert np.allclose(own.viewmat, view.viewmat @ fit.viewmat)
        assert np.allclose(own.K, view.K, rtol=1e-5)
        assert own.reprojection.max() < 1e-3


def test_a_view_may_miss_frames_and_a_crop_may_move() -> None:
    views, poses, identity = made_up_views()
    kept = np.array([0, 2, 3, 4, 7, 8, 11])
    crop = np.stack([np.linspace(10, 40, 7), np.linspace(60, 20, 7), np.full(7, 1.5)], 1).astype(np.float32)
    some = replace(views[2], points=(views[2].points[kept] - crop[:, None, :2]) / 1.5, crop=crop, frames=kept)
    fit = fit_views(HEAD, [views[0], some], iterations=15, smoothness=0.0)
    check(fit, poses, identity)
    assert len(fit.views[1].reprojection) == len(kept)


def test_what_cannot_be_fitted_is_named() -> None:
    views, _, _ = made_up_views()
    with pytest.raises(ValueError, match="no view"):
        fit_views(HEAD, [], iterations=5, smoothness=0.0)
    late = [replace(view, points=view.points[3:], crop=view.crop[3:], frames=view.frames[3:]) for view in views]
    with pytest.raises(ValueError, match="no view saw frame 0"):
        fit_views(HEAD, late, iterations=5, smoothness=0.0)
    views[1].points[4, 7] = np.nan
    with pytest.raises(ValueError, match="frame 4 of view 1"):
        fit_views(HEAD, views, iterations=5, smoothness=0.0)
