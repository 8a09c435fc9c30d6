"""Fitting a parametric head to the landmarks of one segment: pose and expression per frame, identity and focal length shared.

Rounds of damped Gauss-Newton: some frames with all that they share, all frames with the identity held and then with it, and
all frames with smoothness over time. A landmark's standard deviation is not a setting: it is estimated from the residuals
between rounds, so that exact landmarks are followed exactly and noisy ones are held back by the priors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from avatar_models.heads.interface import Head
from avatar_models.tracking.arrow import Normal, step
from avatar_models.tracking.landmark_head import landmark_head
from avatar_models.tracking.problem import FOCAL_SIGMA, Problem, Smoothness, State, axis_angle, seen_of
from avatar_models.tracking.quality import INNER, reprojection_error
from avatar_models.tracking.start import between, first_state

Array = NDArray[np.float64]

FIRST_FOCAL = 2.0
"""Focal length over the source picture's larger side, before it is estimated: between a webcam's and a portrait lens's."""
FIRST_SIGMA = 0.05
SIGMA_LIMITS = (0.004, 0.06)
ERRS_TOGETHER = 3.3
"""A landmark's standard deviation over the scatter of its residuals: neighbouring landmarks err together, so that they
tell less than their number."""
KEY_FRAMES = (12, 32, 32)
"""Of rounds that find what all frames share."""
ROUGHLY, CONVERGED = 1e-2, 1e-3
"""A round ends when a step lowers the cost by less than this share: the first rounds, whose noise is not yet known, and the
last ones."""
TRIES = 5
SETTLED = 0.2
"""After a step of frames alone that lowers the cost by less than this share, curvature is kept and only the gradient made anew."""


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
) -> ClipFit:
    """Fits the head to a segment's landmarks. Raises ValueError for points that are not finite, naming the frame."""
    bad = np.flatnonzero(~np.isfinite(points[..., :2]).all((1, 2)))
    if len(bad):
        raise ValueError(f"landmarks of frame {bad[0]} of the segment are not finite")
    seen, model = seen_of(points, crop, source_size), landmark_head(head)
    log_focal = float(np.log(focal if focal is not None else FIRST_FOCAL * max(source_size)))
    focal_sigma = FOCAL_SIGMA if focal is None else 1e-6
    options = {"first_log_focal": log_focal, "focal_sigma": focal_sigma, "one_sided": head.one_sided}

    def problem_of(frames: NDArray[np.int64], sigma: float, smooth: Smoothness | None = None) -> Problem:
        follows = None if times is None else _follows(times)
        some = seen.frames(frames)
        return Problem(model, some, sigma=sigma, smoothness=smooth, amount=smoothness, follows=follows, **options)  # type: ignore[arg-type]

    keys, sigma, state = np.arange(0), FIRST_SIGMA, None
    for count in KEY_FRAMES:
        frames = np.unique(np.linspace(0, len(points) - 1, count).round().astype(int))
        problem = problem_of(frames, sigma)
        if state is None:
            state = first_state(model, problem.seen, problem.weights, log_focal)
        else:
            state = between(problem, state, keys, frames)
        state, _ = descend(problem, state, iterations, CONVERGED if count == KEY_FRAMES[-1] else ROUGHLY, shared=True)
        sigma, keys = scatter(problem, state), frames

    everything = np.arange(len(points))
    problem = problem_of(everything, sigma)
    state = between(problem, state, keys, everything)
    state, normal = descend(problem, state, iterations, ROUGHLY if smoothness > 0 else CONVERGED, shared=False)
    if smoothness > 0:
        problem = problem_of(everything, sigma, Smoothness())
        state, _ = descend(problem, state, iterations, CONVERGED, shared=False, known=normal)
    return result(problem, state)


def descend(
    problem: Problem, state: State, iterations: int, converged: float, *, shared: bool, known: Normal | None = None
) -> tuple[State, Normal | None]:
    """Levenberg-Marquardt until a step gains nothing to speak of; `known` is the curvature near the state, where it is known.

    Returns the last curvature, too.
    """
    damping, cost, normal = 1e-3, problem.cost(state), known
    settled = known is not None
    for _ in range(iterations):
        kept = normal if settled and not shared else None
        normal = problem.normal(state, shared=shared) if kept is None else problem.refreshed(kept, state)
        for _ in range(TRIES):
            trial = problem.moved(state, *step(normal, damping))
            trial_cost = problem.cost(trial)
            if trial_cost < cost:
                break
            damping = max(10 * damping, 1e-3)
        else:
            break
        gain, cost, state = cost - trial_cost, trial_cost, trial
        damping, settled = damping * 0.1, settled or gain < SETTLED * cost
        if gain < converged * cost:
            break
    return state, normal


def scatter(problem: Problem, state: State) -> float:
    """A landmark's standard deviation over the distance between the eyes, from the residuals' median."""
    distance = np.linalg.norm(problem.residuals(state)[:, INNER], axis=-1)
    return float(np.clip(ERRS_TOGETHER * np.median(distance) / 1.18, *SIGMA_LIMITS))  # the median of a 2D normal's length


def _follows(times: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which frames (N - 2,) have neighbours on both sides at the usual distance."""
    if len(times) < 3:
        return np.zeros(0, bool)
    near = np.diff(times) < 1.6 * np.median(np.diff(times))
    return np.asarray(near[:-1] & near[1:])


def result(problem: Problem, state: State) -> ClipFit:
    N = len(state.t)
    viewmat = np.tile(np.eye(4), (N, 1, 1))
    viewmat[:, :3, :3], viewmat[:, :3, 3] = state.R, state.t
    eyes = np.concatenate([state.eyes, np.zeros((N, 1))], 1)
    projected = problem.projected(state)
    return ClipFit(
        problem.seen.K(state.log_focal), viewmat, state.identity, state.expression, np.zeros((N, 3)), axis_angle(state.R_jaw),
        np.concatenate([eyes, eyes], 1), reprojection_error(projected, problem.seen.points), problem.inliers(state), projected,
    )  # fmt: skip
