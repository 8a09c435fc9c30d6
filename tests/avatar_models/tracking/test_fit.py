"""The landmark fit against heads whose pose, expression and identity are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from avatar_models.cameras import Camera, project
from avatar_models.heads.procedural import procedural_head
from avatar_models.people import Performance, camera_for, make_person, perform, viewmats
from avatar_models.tracking.blendshapes import NAMES
from avatar_models.tracking.fit import fit_clip
from avatar_models.tracking.landmark_head import landmark_head
from avatar_models.tracking.problem import Problem
from avatar_models.tracking.quality import INNER, Limits, clip_verdict, good_frames, inter_ocular, jitter
from avatar_models.tracking.start import Guess, between, first_state
from avatar_models.tracking.state import seen_of

DETECTOR_HEAD = procedural_head()
HEAD = replace(  # whose landmarks are seen where they are: no habits of the detector
    DETECTOR_HEAD,
    embedding=replace(
        DETECTOR_HEAD.embedding, offsets=0 * DETECTOR_HEAD.embedding.offsets, slides=0 * DETECTOR_HEAD.embedding.slides
    ),
)
SIZE = 512


def exact_landmarks(seed: int, frames: int = 20, fps: float = 5.0) -> tuple[np.ndarray, Performance, np.ndarray, np.ndarray]:
    """Projected landmarks (N, 478, 2) of a made-up person, with what they were made from."""
    person, performance = make_person(seed), perform(seed, frames, fps)
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


def test_exact_landmarks_give_back_everything() -> None:
    """Camera, pose, shape and expression, though nothing but landmarks is given."""
    points, performance, views, identity = exact_landmarks(seed=4)
    fit = fit_clip(HEAD, points, whole_picture(len(points)), (SIZE, SIZE), iterations=15, smoothness=0.0)
    assert np.median(fit.reprojection) < 1e-4
    assert fit.K[0, 0, 0] == pytest.approx(camera_for(SIZE)[0][0, 0], rel=0.01)
    assert np.median(angles(fit.viewmat[:, :3, :3], views[:, :3, :3])) < 0.1
    assert np.abs(fit.jaw[:, 0] - performance.jaw[:, 0]).max() < 0.01
    head = np.abs(fit.viewmat[:, :3, 3] - views[:, :3, 3])
    assert np.median(head) < 0.002
    blink = HEAD.expression_names.index("eyeBlinkLeft")
    assert np.abs(fit.expression[:, blink] - performance.expression[:, blink]).max() < 0.05
    hidden = [HEAD.identity_names.index(name) for name in ("hairVolume", "neckWidth")]  # no landmark lies there
    assert np.abs(np.delete(fit.identity - identity, hidden)).max() < 0.2
    assert fit.inliers.min() > 0.9


def test_a_known_focal_length_is_kept() -> None:
    points, _, _, _ = exact_landmarks(seed=4, frames=5)
    fit = fit_clip(HEAD, points, whole_picture(5), (SIZE, SIZE), iterations=8, smoothness=1.0, focal=1000.0)
    assert fit.K[:, 0, 0] == pytest.approx(1000.0, rel=1e-6)


def test_a_hidden_face_has_few_inliers() -> None:
    points, _, _, _ = exact_landmarks(seed=4)
    points[7, 100:] += np.random.default_rng(0).normal(0, 40, points[7, 100:].shape).astype(np.float32)
    fit = fit_clip(HEAD, points, whole_picture(len(points)), (SIZE, SIZE), iterations=10, smoothness=1.0)
    assert fit.inliers[7] < 0.5 < np.delete(fit.inliers, 7).min()


def test_smoothing_stops_at_gaps() -> None:
    points, _, _, _ = exact_landmarks(seed=4, frames=40, fps=25.0)
    noisy = points + np.random.default_rng(2).normal(0, 0.5, points.shape).astype(np.float32)
    noisy[20:, :, 0] += 8  # the head is elsewhere after a gap
    times = np.arange(40) / 25 + np.where(np.arange(40) < 20, 0, 2)
    known, unknown = (
        fit_clip(HEAD, noisy, whole_picture(40), (SIZE, SIZE), iterations=10, smoothness=10.0, times=t) for t in (times, None)
    )
    off = lambda fit: np.abs(fit.projected - noisy)[19:21, INNER].mean()  # noqa: E731
    assert off(known) < 0.8 * off(unknown)


def test_blinks_are_smoothed_less_than_other_expressions() -> None:
    points, performance, _, _ = exact_landmarks(seed=4, frames=40, fps=25.0)
    noisy = points + np.random.default_rng(2).normal(0, 3.0, points.shape).astype(np.float32)
    fit = fit_clip(HEAD, noisy, whole_picture(40), (SIZE, SIZE), iterations=10, smoothness=1.0, times=np.arange(40) / 25)
    blink = HEAD.expression_names.index("eyeBlinkLeft")
    assert np.corrcoef(fit.expression[:, blink], performance.expression[:, blink])[0, 1] > 0.9  # 0.82 if like the others


def test_shaking_landmarks_give_a_steady_head_whose_lips_still_move() -> None:
    points, _, _, _ = exact_landmarks(seed=4, frames=60, fps=25.0)
    noisy = points + np.random.default_rng(1).normal(0, 1.0, points.shape).astype(np.float32)
    fit = fit_clip(HEAD, noisy, whole_picture(60), (SIZE, SIZE), iterations=10, smoothness=1.0, times=np.arange(60) / 25)
    shake = lambda p: np.linalg.norm(np.diff(p, 2, axis=0), axis=-1)[:, INNER].mean()  # noqa: E731
    assert shake(fit.projected) < 0.5 * shake(noisy)
    firmer = fit_clip(HEAD, noisy, whole_picture(60), (SIZE, SIZE), iterations=10, smoothness=1e4, times=np.arange(60) / 25)
    assert shake(firmer.projected) < shake(fit.projected)
    lips = lambda p: np.ptp(np.linalg.norm(p[:, 13] - p[:, 14], axis=-1))  # noqa: E731
    assert lips(fit.projected) == pytest.approx(lips(points), rel=0.05)


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


def test_scores_of_expression_are_a_start_and_no_more() -> None:
    """Right ones and senseless ones end where none end: landmarks decide."""
    points, performance, _, _ = exact_landmarks(seed=4)
    options = {"iterations": 15, "smoothness": 0.0}
    names = [name if name in HEAD.expression_names else None for name in NAMES]
    right = np.stack(
        [performance.expression[:, HEAD.expression_names.index(name)] if name else np.zeros(len(points)) for name in names], 1
    )
    wrong = np.random.default_rng(0).random(right.shape)
    alone, *started = (
        fit_clip(HEAD, points, whole_picture(len(points)), (SIZE, SIZE), blendshapes=scores, **options)  # type: ignore[arg-type]
        for scores in (None, right, wrong)
    )
    for fit in started:
        assert np.abs(fit.projected - alone.projected).max() < 0.5
        assert np.median(np.abs(fit.expression - alone.expression)) < 0.02


def test_between_fitted_frames_the_guess_tells_what_happens() -> None:
    """A blink that no fitted frame shows: interpolation alone would miss it."""
    points, *_ = exact_landmarks(seed=4)
    model, N = landmark_head(HEAD), len(points)
    problem = Problem(
        model, seen_of(points, whole_picture(N), (SIZE, SIZE)), sigma=0.05, first_log_focal=7.1, focal_sigma=0.4,
        one_sided=True, smoothness=None,
    )  # fmt: skip
    blink = HEAD.expression_names.index("eyeBlinkLeft")
    expression = np.zeros((N, HEAD.num_expression))
    expression[10, blink] = 1.0
    guess = Guess(expression, np.zeros((N, 3)), np.zeros((N, 2)))
    keys = np.array([0, N - 1])
    some = first_state(problem.seeing(problem.seen.frames(keys)), 7.1, guess, keys)
    some = replace(some, expression=some.expression + 0.1)
    found = between(problem, some, keys, np.arange(N), guess).expression
    assert found[10, blink] == pytest.approx(1.1)
    assert found[9, blink] == pytest.approx(0.1)
