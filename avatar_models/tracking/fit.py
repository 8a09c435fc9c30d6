"""Fitting a parametric head to landmarks: pose and expression per frame, identity shared; and the focal length, where one
camera of unknown focal length filmed it. See :mod:`avatar_models.tracking.rounds` for how.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from avatar_models.heads.interface import Head
from avatar_models.tracking.blendshapes import expression_guess, gaze_guess, jaw_guess
from avatar_models.tracking.landmark_head import landmark_head
from avatar_models.tracking.photometric import refine
from avatar_models.tracking.problem import FOCAL_SIGMA, Problem
from avatar_models.tracking.quality import reprojection_error
from avatar_models.tracking.rounds import ERR_TOGETHER_IN_VIEWS, FIRST_SIGMA, solve
from avatar_models.tracking.smoothness import NUM_EYES, Smoothness
from avatar_models.tracking.start import Guess, no_guess
from avatar_models.tracking.state import Seen, State, axis_angle, seen_of
from avatar_models.tracking.views import SeenView, ViewsProblem, with_eye_distance

Array = NDArray[np.float64]

FIRST_FOCAL = 2.0
"""Focal length over the source picture's larger side, before it is estimated: between a webcam's and a portrait lens's."""
KNOWN_SIGMA = 1e-6  # of the logarithm of a focal length that is known


@dataclass(frozen=True)
class ClipFit:
    """A fitted segment."""

    K: Array  # (N, 3, 3)
    viewmat: Array  # (N, 4, 4) head's frame to camera
    identity: Array  # (I,)
    expression: Array  # (N, E)
    neck: Array  # (N, 3), zero: the head's rigid motion is in viewmat
    jaw: Array  # (N, 3)
    eyes: Array  # (N, 6)
    reprojection: Array  # (N,) median distance over the inter-ocular distance
    inliers: Array  # (N,) in [0, 1]: share of the landmarks that the head agrees with
    projected: Array  # (N, 478, 2) the model's landmarks in crop pixels
    refined: bool = False
    """With the pictures; distances and inliers are then to the detector's points less its habit on this person."""


def fit_clip(
    head: Head,
    points: NDArray[np.float32],  # (N, 478, 2 or 3) crop pixels
    crop: NDArray[np.float32],  # (N, 3) x0, y0, scale of the stored crop in the source picture
    source_size: tuple[int, int],  # width, height in pixels
    *,
    iterations: int,  # at most, in each round
    smoothness: float,  # 0 is none, 1 the default
    focal: float | None = None,  # of the source camera in pixels, where it is known
    times: NDArray[np.float64] | None = None,  # (N,) seconds; a gap is not smoothed over
    pictures: NDArray[np.uint8] | None = None,  # (N, H, W, 3) the crops, for the photometric refinement
    blendshapes: NDArray[np.floating] | None = None,  # (N, 52) the detector's scores, where it gives them, to start from
) -> ClipFit:
    """Fits the head to a segment's landmarks. Raises ValueError for points that are not finite, naming the frame."""
    _refuse_nan(points, "the segment")
    seen, model = seen_of(points, crop, source_size), landmark_head(head)
    log_focal = float(np.log(focal if focal is not None else FIRST_FOCAL * max(source_size)))
    focal_sigma = FOCAL_SIGMA if focal is None else KNOWN_SIGMA
    follows = None if times is None else _follows(times)

    guess = no_guess(len(points), head.num_expression)
    if blendshapes is not None:
        expression = expression_guess(head, blendshapes)
        guess = Guess(expression, jaw_guess(blendshapes), gaze_guess(blendshapes).reshape(-1, 2, 3).mean(1)[:, :NUM_EYES])

    def problem_of(frames: NDArray[np.int64], sigma: float, smooth: Smoothness | None) -> Problem:
        return Problem(
            model, seen.frames(frames), sigma=sigma, first_log_focal=log_focal, focal_sigma=focal_sigma,
            one_sided=head.one_sided, smoothness=smooth, amount=smoothness, follows=follows,
        )  # fmt: skip

    problem, state = solve(problem_of, len(points), log_focal, guess, iterations=iterations, smoothness=smoothness)
    refined = None if pictures is None else refine(head, problem, state, pictures)
    return result(problem, state) if refined is None else replace(result(*refined), refined=True)


@dataclass(frozen=True)
class View:
    """What one camera of several saw: M of the N frames that all share."""

    points: NDArray[np.float32]  # (M, 478, 2 or 3) crop pixels
    crop: NDArray[np.float32]  # (M, 3) x0, y0, scale of the stored crop in the source picture
    frames: NDArray[np.int64]  # (M,) rising numbers below N
    K: Array  # (3, 3) of the source picture, pixels
    viewmat: Array  # (4, 4) world to camera, metres


@dataclass(frozen=True)
class ViewsFit:
    """A head fitted to several cameras' landmarks."""

    viewmat: Array  # (N, 4, 4) head's frame to world
    identity: Array  # (I,)
    expression: Array  # (N, E)
    jaw: Array  # (N, 3)
    eyes: Array  # (N, 6)
    views: list[ClipFit]
    """Each view's own frames as a clip: viewmat is the head's frame to that camera."""


def fit_views(
    head: Head,
    views: Sequence[View],
    *,
    iterations: int,
    smoothness: float,
    times: NDArray[np.float64] | None = None,  # (N,) seconds; a gap is not smoothed over
) -> ViewsFit:
    """Fits the head to what several known cameras saw at the same times.

    Every frame must be in a view. Raises ValueError for what cannot be fitted, naming the view and the frame.
    """
    count = _number_of_frames(views)
    model = landmark_head(head)
    options = {"first_log_focal": 0.0, "focal_sigma": KNOWN_SIGMA, "one_sided": head.one_sided}
    follows = None if times is None else _follows(times)
    seen_views = []
    for view in views:
        fx, fy, cx, cy = (float(view.K[place]) for place in ((0, 0), (1, 1), (0, 2), (1, 2)))
        points = np.asarray(view.points[..., :2], np.float64)
        seen = Seen(points, np.asarray(view.crop, np.float64), (0, 0), np.ones(len(points)), (fx, fy, cx, cy))
        unknown = SeenView(seen, np.asarray(view.frames), np.asarray(view.viewmat, np.float64))
        posing = Problem(model, seen, sigma=FIRST_SIGMA, smoothness=None, **options)  # type: ignore[arg-type]
        seen_views.append(with_eye_distance(unknown, model, posing))

    def problem_of(frames: NDArray[np.int64], sigma: float, smooth: Smoothness | None) -> ViewsProblem:
        def of(seen: Seen, smooth: Smoothness | None) -> Problem:
            return Problem(model, seen, sigma=sigma, smoothness=smooth, amount=smoothness, follows=follows, **options)  # type: ignore[arg-type]

        nothing = Seen(np.zeros((len(frames), 0, 2)), np.zeros((len(frames), 3)), (0, 0), np.ones(len(frames)))
        some = [view.some(frames) for view in seen_views]
        return ViewsProblem(of(nothing, smooth), [(view, of(view.seen, None)) for view in some])

    guess = no_guess(count, head.num_expression)
    problem, state = solve(
        problem_of, count, 0.0, guess, iterations=iterations, smoothness=smoothness, together=ERR_TOGETHER_IN_VIEWS
    )
    fitted = [result(of_view, view.state(state)) for view, of_view in problem.views]
    return ViewsFit(state.viewmats(), state.identity, state.expression, axis_angle(state.R_jaw), state.both_eyes(), fitted)


def _number_of_frames(views: Sequence[View]) -> int:
    if not views:
        raise ValueError("no view to fit a head to")
    for number, view in enumerate(views):
        name = f"view {number}"
        if not len(view.points) or not (len(view.points) == len(view.frames) == len(view.crop)):
            raise ValueError(
                f"{name}: {len(view.points)} frames of landmarks, {len(view.crop)} crops, {len(view.frames)} numbers"
            )
        if (np.diff(view.frames) <= 0).any() or view.frames[0] < 0:
            raise ValueError(f"{name}: its frames' numbers do not rise from 0 on")
        _refuse_nan(view.points, name)
    seen = np.unique(np.concatenate([view.frames for view in views]))
    missing = np.setdiff1d(np.arange(seen[-1] + 1), seen)
    if len(missing):
        raise ValueError(f"no view saw frame {missing[0]}; number the frames without it")
    return len(seen)


def _refuse_nan(points: NDArray[np.float32], name: str) -> None:
    bad = np.flatnonzero(~np.isfinite(points[..., :2]).all((1, 2)))
    if len(bad):
        raise ValueError(f"landmarks of frame {bad[0]} of {name} are not finite")


def _follows(times: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which frames (N - 2,) have neighbours on both sides at the usual distance."""
    if len(times) < 3:
        return np.zeros(0, bool)
    near = np.diff(times) < 1.6 * np.median(np.diff(times))
    return np.asarray(near[:-1] & near[1:])


def result(problem: Problem, state: State) -> ClipFit:
    projected = problem.projected(state)
    return ClipFit(
        problem.seen.K(state.log_focal), state.viewmats(), state.identity, state.expression,
        np.zeros((len(state.t), 3)), axis_angle(state.R_jaw), state.both_eyes(),
        reprojection_error(projected, problem.seen.points), problem.inliers(state), projected,
    )  # fmt: skip
