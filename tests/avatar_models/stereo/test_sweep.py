"""Depths of a plane and a sphere that are known in closed form."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from avatar_models.stereo.fusion import agrees, cloud, nearest, unprojected
from avatar_models.stereo.sweep import Bounds, SweepOptions, View, sweep
from tests.avatar_models.stereo.painted import SIDE, beside, of_plane, of_sphere, sphere_normals

NEAR, FAR = 0.5, 0.7
OPTIONS = SweepOptions(depths=81, stride=3, neighbours=2)  # 2.5 mm from depth to depth
STEP = (FAR - NEAR) / 80


def bounds(near: float = NEAR, far: float = FAR) -> Bounds:
    return Bounds.between(near, far, SIDE, SIDE)


def test_a_plane_that_faces_the_camera_is_found_where_it_is() -> None:
    normal = np.array([0, 0, 1.0])
    view, true = of_plane(beside(0), normal, 0.013)
    others = [of_plane(beside(angle), normal, 0.013)[0] for angle in (-12, 12)]
    found = sweep(view, others, bounds(), OPTIONS)
    known = np.isfinite(found)
    assert found.shape == (32, 32) and known.mean() > 0.7
    error = np.abs(found - true[::3, ::3])[known]
    assert np.median(error) < 0.1 * STEP and np.quantile(error, 0.99) < STEP


def test_a_slanted_plane_is_found_better_by_patches_that_lie_in_it() -> None:
    normal = np.array([0.6, 0, -0.8])
    view, true = of_plane(beside(0), normal, 0.0)
    others = [of_plane(beside(angle), normal, 0.0)[0] for angle in (-15, 15)]
    errors = []
    for own in (np.array([0, 0, -1.0]), normal):
        own_bounds = replace(bounds(), normals=np.tile(own.astype(np.float32), (SIDE, SIDE, 1)))
        found = sweep(view, others, own_bounds, OPTIONS)
        errors.append(np.nanmedian(np.abs(found - true[::3, ::3])))
    assert errors[1] < 0.1 * STEP and errors[1] < 0.5 * errors[0]


def test_what_cannot_be_known_is_left_out() -> None:
    normal = np.array([0, 0, 1.0])
    view, _ = of_plane(beside(0), normal, 0.0)
    others = [of_plane(beside(angle), normal, 0.0)[0] for angle in (-12, 12)]
    flat = replace(view, picture=np.full((SIDE, SIDE), 0.5, np.float32))
    assert np.isnan(sweep(flat, others, bounds(), OPTIONS)).all()  # no contrast
    assert np.isnan(sweep(view, others, bounds(0.50, 0.55), OPTIONS)).mean() > 0.95  # the surface lies beyond the bounds
    assert np.isnan(sweep(view, [], bounds(), OPTIONS)).all()
    left = np.zeros((SIDE, SIDE), bool)
    left[:, : SIDE // 2] = True
    assert np.isnan(sweep(replace(view, mask=left), others, bounds(), OPTIONS)[:, 16:]).all()


def test_points_of_a_sphere_lie_on_it() -> None:
    views: list[View] = []
    around: list[Bounds] = []
    for angle in (-30, -15, 0, 15, 30):
        view, depth = of_sphere(beside(angle), 0.1)
        views.append(view)
        normals = sphere_normals(beside(angle), depth).astype(np.float32)
        depth = depth.astype(np.float32)
        around.append(Bounds(depth - 0.031, depth + 0.025, normals))
    points = cloud(views, around, SweepOptions(depths=29, stride=3, neighbours=2))
    off = np.abs(np.linalg.norm(points, axis=1) - 0.1)
    assert points.dtype == np.float32 and len(points) > 1000
    assert np.median(off) < 0.0005 and np.quantile(off, 0.95) < 0.002


def test_points_that_another_view_sees_elsewhere_do_not_agree() -> None:
    view, depth = of_sphere(beside(0), 0.1)
    other, its_depth = of_sphere(beside(20), 0.1)
    points = unprojected(view, depth[::2, ::2].astype(np.float32), 2)
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 0.1, rtol=1e-5)
    own = its_depth[::2, ::2].astype(np.float32)
    options = SweepOptions(stride=2)
    right = agrees(points, other, own, options)
    assert 0.6 < right.mean() < 1.0  # those behind the horizon are not seen there
    assert not agrees(points, other, own + np.float32(0.05), options).any()


def test_the_nearest_cameras_are_neighbours() -> None:
    views = [of_sphere(beside(angle), 0.1)[0] for angle in (0, 40, 15, -10)]
    assert nearest(views, 0, 2) == [3, 2] and nearest(views, 1, 1) == [2]


def test_options_that_find_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="at least three depths"):
        SweepOptions(depths=2)
