"""The photometric refinement against made-up people whose detector leans."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from avatar_models.cameras import Camera, project
from avatar_models.people import camera_for, film, make_person, perform, viewmats
from avatar_models.rotations import axis_angle_to_matrix
from avatar_models.tracking.fit import fit_clip
from avatar_models.tracking.photometric import explain
from avatar_models.tracking.skin import View
from tests.avatar_models.tracking.test_fit import HEAD, angles, whole_picture

SIZE, FRAMES, FPS = 256, 24, 5.0


def leaning_landmarks(seed: int, lean: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Landmarks (N, 478, 2) of a detector that sees a person's head lean back, the pictures, and the true rotations."""
    person, performance = make_person(seed), perform(seed, FRAMES, FPS)
    K, distance = camera_for(SIZE)
    views = viewmats(performance, distance)
    values = (performance.expression, np.zeros((FRAMES, 3)), performance.jaw, performance.eyes)
    vertices = HEAD.vertices(torch.tensor(person.identity)[None].double(), *(torch.tensor(v).double() for v in values))
    turn = axis_angle_to_matrix(torch.tensor([[lean, 0.0, 0.0]]).double())
    camera = Camera(torch.tensor(K).expand(FRAMES, 3, 3), torch.tensor(views), SIZE, SIZE)
    points = project(HEAD.landmarks(vertices) @ turn.mT, camera).numpy().astype(np.float32)
    pictures = np.stack([film(person, performance, n, SIZE, views[n], K) for n in range(FRAMES)])
    return points, pictures, views[:, :3, :3]


def test_pictures_take_back_most_of_a_lean_that_landmarks_put_on_a_head() -> None:
    points, pictures, R = leaning_landmarks(seed=3, lean=np.radians(3.0))
    options = {"iterations": 15, "smoothness": 1.0}
    alone = fit_clip(HEAD, points, whole_picture(FRAMES), (SIZE, SIZE), **options)  # type: ignore[arg-type]
    with_pictures = fit_clip(HEAD, points, whole_picture(FRAMES), (SIZE, SIZE), pictures=pictures, **options)  # type: ignore[arg-type]
    before, after = (np.median(angles(fit.viewmat[:, :3, :3], R)) for fit in (alone, with_pictures))
    assert with_pictures.refined and not alone.refined
    assert before > 2.0
    assert after < 0.5 * before


def test_a_short_clip_is_left_to_its_landmarks() -> None:
    points, pictures, _ = leaning_landmarks(seed=3, lean=0.0)
    few = slice(0, 5)
    options = {"iterations": 15, "smoothness": 1.0}
    alone = fit_clip(HEAD, points[few], whole_picture(5), (SIZE, SIZE), **options)  # type: ignore[arg-type]
    same = fit_clip(HEAD, points[few], whole_picture(5), (SIZE, SIZE), pictures=pictures[few], **options)  # type: ignore[arg-type]
    np.testing.assert_array_equal(alone.viewmat, same.viewmat)
    assert not same.refined


@pytest.mark.parametrize("what", ["noise", "white", "a head that stands still", "a face out of sight"])
def test_pictures_that_tell_nothing_leave_the_fit_to_landmarks(what: str) -> None:
    points, pictures, _ = leaning_landmarks(seed=3, lean=0.0)
    if what == "noise":
        pictures = np.random.default_rng(0).integers(0, 256, pictures.shape, np.uint8)
    elif what == "white":
        pictures = np.full_like(pictures, 255)
    elif what == "a head that stands still":
        points, pictures = np.repeat(points[:1], FRAMES, 0), np.repeat(pictures[:1], FRAMES, 0)
    else:
        points = points + np.float32(SIZE)
    options = {"iterations": 15, "smoothness": 1.0}
    alone = fit_clip(HEAD, points, whole_picture(FRAMES), (SIZE, SIZE), **options)  # type: ignore[arg-type]
    fit = fit_clip(HEAD, points, whole_picture(FRAMES), (SIZE, SIZE), pictures=pictures, **options)  # type: ignore[arg-type]
    assert not fit.refined
    np.testing.assert_array_equal(fit.viewmat, alone.viewmat)


def test_albedo_light_and_gains_explain_what_they_made() -> None:
    """With points that face all ways and a few that are hidden by something bright, up to the factor that is free."""
    rng = np.random.default_rng(0)
    normals = rng.normal(size=(12, 400, 3)) + [0, 0, -1.5]
    normals = (normals / np.linalg.norm(normals, axis=-1, keepdims=True)).astype(np.float32)
    albedo, gain = rng.uniform(0.3, 0.8, 400), rng.uniform(0.8, 1.2, 12)
    shade = 1 + 0.2 * normals[..., 1] - 0.25 * normals[..., 2] + 0.1 * normals[..., 0] * normals[..., 1]
    luminance = (gain[:, None] * shade * albedo).astype(np.float32)
    luminance[:, :30] = np.where(rng.random((12, 30)) < 0.3, 1.0, luminance[:, :30])
    view = View(normals, np.ones((12, 400), np.float32))
    appearance, gains = explain(luminance, view, None, np.ones(12))
    for _ in range(3):
        appearance, gains = explain(luminance, view, appearance, gains)
    np.testing.assert_allclose(gains / gains.mean(), gain / gain.mean(), rtol=0.01)
    np.testing.assert_allclose(appearance.light[:5], [1, 0, 0.2, -0.25, 0.1], atol=0.02)
    ratio = appearance.albedo[30:] / albedo[30:]
    np.testing.assert_allclose(ratio / np.median(ratio), 1.0, rtol=0.02)
