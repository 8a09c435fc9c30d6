"""Fitting a parametric head to the landmarks of one segment: pose and expression per frame, identity and focal length shared.

Rounds of damped Gauss-Newton: some frames with all that they share, all frames with the identity held and then with it, and
all frames with smoothness over time. A landmark's standard deviation is not a setting: it is estimated from the residuals
between rounds, so that exact landmarks are followed exactly and noisy ones are held back by the priors.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from avatar_models.heads.interface import Head
from avatar_models.tracking.arrow import step
from avatar_models.tracking.landmark_head import landmark_head
from avatar_models.tracking.photometric import refine
from avatar_models.tracking.problem import FOCAL_SIGMA, Problem, Smoothness, State, axis_angle, rotation, seen_of
from avatar_models.tracking.quality import INNER, reprojection_error
from avatar_models.tracking.start import first_state

Array = NDArray[np.float64]

FIRST_FOCAL = 2.0
"""Focal length over the source picture's larger side, before it is estimated: between a webcam's and a portrait lens's."""
FIRST_SIGMA = 0.05
SIGMA_LIMITS = (0.004, 0.06)
ERRS_TOGETHER = 3.3
"""A landmark's standard deviation over the scatter of its residuals: neighbouring landmarks err together, so that they
tell less than their number."""
KEY_FRAMES = 32
SHARED_ITERATIONS = 2
"""With all frames: the key frames have found the identity but for what the others add."""
CONVERGED = 1e-3
"""A round ends when a step lowers the cost by less than this share."""
TRIES = 5


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
    pictures: NDArray[np.uint8] | None = None,  # (N, H, W, 3) the crops, for the photometric refinement
) -> ClipFit:
    """Fits the head to a segment's landmarks. Raises ValueError for points that are not finite, naming the frame."""
    bad = np.flatnonzero(~np.isfinite(points[..., :2]).all((1, 2)))
    if len(bad):
        raise ValueError(f"landmarks of frame {bad[0]} of the segment are not finite")
    seen, model = seen_of(points, crop, source_size), landmark_head(head)
    log_focal = float(np.log(focal if focal is not None else FIRST_FOCAL * max(source_size)))
    focal_sigma = FOCAL_SIGMA if focal is None else 1e-6
    options = {"first_log_focal": log_focal, "focal_sigma": focal_sigma, "one_sided": head.one_sided}

    problem = Problem(model, seen, sigma=FIRST_SIGMA, smoothness=None, **options)  # type: ignore[arg-type]
    state = first_state(model, seen, problem.weights, log_focal)
    keys = np.unique(np.linspace(0, len(points) - 1, KEY_FRAMES).round().astype(int))
    some, sigma = state.frames(keys), FIRST_SIGMA
    for _ in range(3):
        of_keys = Problem(model, seen.frames(keys), sigma=sigma, smoothness=None, **options)  # type: ignore[arg-type]
        some = descend(of_keys, some, iterations, shared=True)
        sigma = scatter(of_keys, some)

    problem = Problem(model, seen, sigma=sigma, smoothness=None, **options)  # type: ignore[arg-type]
    state = between(some, keys, first_state(model, seen, problem.weights, some.log_focal))
    state = descend(problem, state, iterations, shared=False)
    state = descend(problem, state, SHARED_ITERATIONS, shared=True)
    sigma = scatter(problem, state)
    smooth = Smoothness() if smoothness > 0 else None
    follows = None if times is None else _follows(times)
    problem = Problem(model, seen, sigma=sigma, smoothness=smooth, amount=smoothness, follows=follows, **options)  # type: ignore[arg-type]
    state = descend(problem, state, iterations, shared=False)
    if pictures is not None:
        problem, state = refine(head, problem, state, pictures)
    return result(problem, state)


def descend(problem: Problem, state: State, iterations: int, *, shared: bool) -> State:
    """Levenberg-Marquardt until a step gains nothing to speak of."""
    damping, cost = 1e-3, problem.cost(state)
    for _ in range(iterations):
        normal = problem.normal(state, shared=shared)
        for _ in range(TRIES):
            trial = problem.moved(state, *step(normal, damping))
            trial_cost = problem.cost(trial)
            if trial_cost < cost:
                break
            damping = max(10 * damping, 1e-3)
        else:
            return state
        gain, cost, state = cost - trial_cost, trial_cost, trial
        damping = damping * 0.1
        if gain < CONVERGED * cost:
            return state
    return state


def between(some: State, keys: NDArray[np.int64], posed: State) -> State:
    """All frames' poses with the identity of some frames, and with expression, jaw and eyes as between those."""
    frames = np.arange(len(posed.t))

    def at(values: Array) -> Array:  # (keys, K) -> (N, K)
        return np.stack([np.interp(frames, keys, column) for column in values.T], 1)

    jaw = rotation(at(axis_angle(some.R_jaw)))
    return replace(posed, identity=some.identity, expression=at(some.expression), R_jaw=jaw, eyes=at(some.eyes))


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
