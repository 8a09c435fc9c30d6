"""The landmark fit against heads whose pose, expression and identity are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from avatar_models.cameras import Camera, project
from avatar_models.heads import load_head
from avatar_models.people import Performance, camera_for, make_person, perform, viewmats
from avatar_models.tracking.fit import _landmark_model, _Problem, fit_clip
from avatar_models.tracking.quality import INNER, Limits, clip_verdict, good_frames, inter_ocular, jitter

HEAD = load_head("procedural")
SIZE = 512


def exact_landmarks(seed: int, frames: int = 20) -> tuple[np.ndarray, Performance, np.ndarray, np.ndarray]:
    """Projected landmarks (N, 478, 2) of a made-up person, with what they were made from."""
    person, performance = make_person(seed), perform(seed, frames, 5.0)
    K, distance = camera_for(SIZE)
    views = viewmats(performance, distance)
    arguments = (performance.expression, np.zeros((frames, 3)), performance.jaw, performance.eyes)
    vertices = HEAD.vertices(torch.tensor(person.identity)[None].double(), *(torch.tensor(a).double() for a in arguments))
    camera = Camera(torch.tensor(K).expand(frames, 3, 3), torch.tensor(views), SIZE, SIZE)
    return project(HEAD.landmarks(vertices), camera).numpy().astype(np.float32), performance, views, person.identity


def whole_picture(frames: int) -> np.ndarray:
    return np.tile(np.array([[0.0, 0.0, 1.0]], np.float32), (frames, 1))


def angles(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Angle in degrees between rotations (N, 3, 3)."""
    trace = np.trace(a @ b.transpose(0, 2, 1), axis1=1, axis2=2)
    return np.degrees(np.arccos(np.clip((trace - 1) / 2, -1, 1)))


def test_exact_landmarks_give_back_pose_and_jaw() -> None:
    points, performance, views, _ = exact_landmarks(seed=4)
    fit = fit_clip(HEAD, points, whole_picture(len(points)), (SIZE, SIZE), iterations=30, smoothness=0.0)
    turned = angles(fit.viewmat[:, :3, :3], views[:, :3, :3])
    assert np.median(fit.reprojection) < 0.005
    assert np.median(turned) < 1.5
    assert np.corrcoef(fit.jaw[:, 0], performance.jaw[:, 0])[0, 1] > 0.95
    blink = HEAD.expression_names.index("eyeBlinkLeft")
    assert np.corrcoef(fit.expression[:, blink], performance.expression[:, blink])[0, 1] > 0.9


def test_a_moving_crop_changes_nothing_but_K() -> None:
    points, _, _, _ = exact_landmarks(seed=4, frames=6)
    crop = np.stack([np.linspace(10, 40, 6), np.linspace(60, 20, 6), np.full(6, 1.5)], 1).astype(np.float32)
    still = fit_clip(HEAD, points, whole_picture(6), (SIZE, SIZE), iterations=12, smoothness=1.0)
    moved = fit_clip(HEAD, (points - crop[:, None, :2]) / 1.5, crop, (SIZE, SIZE), iterations=12, smoothness=1.0)
    assert np.allclose(moved.viewmat, still.viewmat, atol=2e-3)
    assert moved.K[3, 0, 0] * 1.5 == pytest.approx(still.K[3, 0, 0], rel=2e-3)


def test_a_tenth_of_wild_points_does_little_harm() -> None:
    points, _, views, _ = exact_landmarks(seed=5, frames=10)
    rng = np.random.default_rng(0)
    wild = points.copy()
    for frame in wild:
        frame[rng.choice(478, 48, replace=False)] += rng.normal(0, 60, (48, 2)).astype(np.float32)
    fit = fit_clip(HEAD, wild, whole_picture(10), (SIZE, SIZE), iterations=20, smoothness=1.0)
    error = np.linalg.norm(fit.projected - points, axis=-1)[:, INNER] / inter_ocular(points)[:, None]
    assert np.median(error) < 0.02
    assert np.median(angles(fit.viewmat[:, :3, :3], views[:, :3, :3])) < 3.0


def test_the_jacobian_is_the_derivative_of_the_residuals() -> None:
    points, _, _, _ = exact_landmarks(seed=6, frames=2)
    problem = _Problem(HEAD, points.astype(np.float64), whole_picture(2).astype(np.float64), (SIZE, SIZE), 1.0)
    state = problem.first_state()
    state = problem.moved(state, np.full((2, problem.num_frame), 0.03), np.full(problem.num_shared, 0.05))
    J = problem.jacobian(state, slice(0, 2)).astype(np.float64)
    step = 1e-5
    for column in range(problem.num_frame + problem.num_shared):
        frames, shared = np.zeros((2, problem.num_frame)), np.zeros(problem.num_shared)
        if column < problem.num_frame:
            frames[:, column] = step
        else:
            shared[column - problem.num_frame] = step
        plus, _ = problem.residuals(problem.moved(state, frames, shared))
        minus, _ = problem.residuals(problem.moved(state, -frames, -shared))
        wanted = (plus - minus) / (2 * step)
        eyes = problem.num_frame - 2 <= column < problem.num_frame  # axis-angle, turned as if at rest: right to first order
        assert np.abs(J[..., column] - wanted).max() < (2e-2 if eyes else 2e-4) * np.abs(wanted).max() + 2e-5, column


def test_the_landmark_model_is_the_heads_own() -> None:
    model = _landmark_model(HEAD)
    zero = [torch.zeros(1, n, dtype=torch.float64) for n in (HEAD.num_identity, HEAD.num_expression, 3, 3, 6)]
    assert np.allclose(model.template, HEAD.landmarks(HEAD.vertices(*zero))[0].numpy(), atol=1e-7)


def test_one_frame_can_be_fitted_and_nan_is_refused() -> None:
    points, _, _, _ = exact_landmarks(seed=4, frames=1)
    assert fit_clip(HEAD, points, whole_picture(1), (SIZE, SIZE), iterations=10, smoothness=1.0).reprojection[0] < 0.03
    points[0, 5] = np.nan
    with pytest.raises(ValueError, match="landmarks of frame 0"):
        fit_clip(HEAD, points, whole_picture(1), (SIZE, SIZE), iterations=10, smoothness=1.0)


LIMITS = Limits(max_reprojection=0.05, max_jitter=0.03, min_coverage=0.5, min_confidence=0.5, min_frames=3)


def test_verdicts_name_the_gate_and_the_figure() -> None:
    good = good_frames(np.array([0.01, 0.2, 0.02, 0.03]), np.array([0.9, 0.9, 0.3, 0.9]), LIMITS)
    assert good.tolist() == [True, False, False, True]
    assert clip_verdict(np.ones(4, bool), np.zeros(4), 1.0, LIMITS) == ""
    assert clip_verdict(good, np.zeros(4), 1.0, LIMITS) == "frames: 2 good frames of 4, 3 are wanted"
    assert clip_verdict(good, np.full(4, 0.1), 1.0, LIMITS).startswith("jitter: 0.1000")
    assert clip_verdict(good, np.zeros(4), 0.25, LIMITS).startswith("coverage: the face was found in 25%")


def test_steady_motion_has_no_jitter_and_gaps_are_left_out() -> None:
    points, _, _, _ = exact_landmarks(seed=4, frames=1)
    moving = points + np.arange(6)[:, None, None] * np.array([3.0, 1.0])
    assert jitter(moving, np.arange(6)).max() < 1e-6
    moving[3:] += 40
    assert jitter(moving, np.array([0, 1, 2, 9, 10, 11])).max() < 1e-6
