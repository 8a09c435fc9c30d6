"""Rounds of damped Gauss-Newton that fit a head, to one camera's landmarks or to several cameras'.

Some frames with all that they share, more and more of them; then all frames with that held; then all frames with smoothness
over time. A landmark's standard deviation is not a setting: it is estimated from the residuals between rounds, so that exact
landmarks are followed exactly and noisy ones are held back by the priors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from avatar_models.tracking.arrow import Normal, step
from avatar_models.tracking.problem import Problem
from avatar_models.tracking.quality import INNER
from avatar_models.tracking.smoothness import Smoothness
from avatar_models.tracking.start import Guess, between, first_state
from avatar_models.tracking.state import State
from avatar_models.tracking.views import ViewsProblem

P = TypeVar("P", Problem, ViewsProblem)

FIRST_SIGMA = 0.05
SIGMA_LIMITS = (0.004, 0.06)
ERRS_TOGETHER = 3.3
"""A landmark's standard deviation over the scatter of its residuals: neighbouring landmarks err together, so that they
tell less than their number."""
ERR_TOGETHER_IN_VIEWS = 1.5
"""The same where several cameras see the face: each view's errors are others."""
KEY_FRAMES = (12, 32, 32)
"""Of rounds that find what all frames share."""
ROUGHLY, CONVERGED = 1e-2, 1e-3
"""A round ends when a step lowers the cost by less than this share: the first rounds, whose noise is not yet known, and the
last ones."""
TRIES = 3
SETTLED = 0.2
"""When a step of frames alone lowers the cost by less than this, curvature is kept: the gradient alone is made anew."""


def solve(
    problem_of: Callable[[NDArray[np.int64], float, Smoothness | None], P],
    count: int,
    log_focal: float,
    guess: Guess,
    *,
    iterations: int,
    smoothness: float,
    together: float = ERRS_TOGETHER,
) -> tuple[P, State]:
    """The last round's problem and where it ended.

    `problem_of` makes the problem of some of `count` frames, with a landmark's standard deviation and with smoothness or none.
    """
    sigma, keys = FIRST_SIGMA, _spread(count, KEY_FRAMES[0])
    problem = problem_of(keys, sigma, None)
    state = first_state(problem, log_focal, guess, keys)
    for number, most in enumerate(KEY_FRAMES):
        frames = _spread(count, most)
        problem = problem_of(frames, sigma, None)
        state, keys = between(problem, state, keys, frames, guess), frames
        last = number == len(KEY_FRAMES) - 1
        state, _ = descend(problem, state, iterations, CONVERGED if last else ROUGHLY, shared=True)
        sigma = scatter(problem, state, together)

    everything = np.arange(count)
    problem = problem_of(everything, sigma, None)
    state = between(problem, state, keys, everything, guess)
    state, normal = descend(problem, state, iterations, ROUGHLY if smoothness > 0 else CONVERGED, shared=False)
    if smoothness > 0:
        problem = problem_of(everything, sigma, Smoothness())
        state, _ = descend(problem, state, iterations, CONVERGED, shared=False, known=normal)
    return problem, state


def descend(
    problem: P, state: State, iterations: int, converged: float, *, shared: bool, known: Normal | None = None
) -> tuple[State, Normal | None]:
    """Levenberg-Marquardt until a step gains nothing to speak of; `known` is the curvature near the state, where it is known.

    Returns the last curvature, too.
    """
    damping, cost, normal = 1e-3, problem.cost(state), known
    settled = known is not None
    for _ in range(iterations):
        kept = normal if settled and not shared else None
        normal = problem.normal(state, shared=shared) if kept is None else problem.refreshed(kept, state)
        before = damping
        for _ in range(TRIES):
            trial = problem.moved(state, *step(normal, damping))
            trial_cost = problem.cost(trial)
            if trial_cost < cost:
                break
            damping = max(30 * damping, 1e-3)
        else:
            if kept is None:
                break
            settled, damping = False, before  # the curvature was kept for too long
            continue
        gain, cost, state = cost - trial_cost, trial_cost, trial
        damping, settled = damping * 0.1, settled or gain < SETTLED * cost
        if gain < converged * cost:
            break
    return state, normal


def scatter(problem: Problem | ViewsProblem, state: State, together: float) -> float:
    """A landmark's standard deviation over the distance between the eyes, from the residuals' median."""
    distance = np.linalg.norm(problem.residuals(state)[:, INNER], axis=-1)
    return float(np.clip(together * np.median(distance) / 1.18, *SIGMA_LIMITS))  # the median of a 2D normal's length


def _spread(count: int, most: int) -> NDArray[np.int64]:
    """At most so many of `count` frames, from the first to the last."""
    return np.unique(np.linspace(0, count - 1, most).round().astype(np.int64))
