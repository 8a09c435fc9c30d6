"""Where a head fit starts: the head, neutral or shaped, posed on each frame by itself."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from avatar_models.tracking.problem import Problem
from avatar_models.tracking.smoothness import NUM_EYES
from avatar_models.tracking.state import State, axis_angle, rotation
from avatar_models.tracking.views import ViewsProblem

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Guess:
    """What the detector says of all of a clip's N frames beside the landmarks; zeros where it says nothing."""

    expression: Array  # (N, E)
    jaw: Array  # (N, 3) axis-angle
    eyes: Array  # (N, NUM_EYES)


def no_guess(count: int, num_expression: int) -> Guess:
    return Guess(np.zeros((count, num_expression)), np.zeros((count, 3)), np.zeros((count, NUM_EYES)))


def first_state(problem: Problem | ViewsProblem, log_focal: float, guess: Guess, frames: NDArray[np.int64]) -> State:
    """Frames as guessed, with the mean face. `problem` is of `frames`."""
    N, model = problem.num_frames, problem.model
    R, t = problem.poses(np.broadcast_to(model.template, (N, *model.template.shape)), log_focal)
    return State(
        np.zeros(len(model.identity)), log_focal, R, t, guess.expression[frames], rotation(guess.jaw[frames]),
        guess.eyes[frames],
    )  # fmt: skip


def between(
    problem: Problem | ViewsProblem, some: State, keys: NDArray[np.int64], frames: NDArray[np.int64], guess: Guess
) -> State:
    """Frames with the identity of some (`keys`, in the same numbers), and with expression, jaw and eyes as guessed, but for
    what the guess was wrong by in those.

    Each is posed by itself. `problem` is of `frames`.
    """
    if np.array_equal(keys, frames):
        return some

    def at(values: Array, guessed: Array) -> Array:  # (keys, K), (all, K) -> (N, K)
        wrong = values - guessed[keys]
        return guessed[frames] + np.stack([np.interp(frames, keys, column) for column in wrong.T], 1)

    N = len(frames)
    still = State(
        some.identity, some.log_focal, np.tile(np.diag([1.0, -1.0, -1.0]), (N, 1, 1)), np.tile([0.0, 0.0, 1.0], (N, 1)),
        at(some.expression, guess.expression), rotation(at(axis_angle(some.R_jaw), guess.jaw)), at(some.eyes, guess.eyes),
    )  # fmt: skip
    for _ in range(2):  # the second time with the detector's slides of these views
        R, t = problem.poses(problem.posed(still), some.log_focal)
        still = replace(still, R=R, t=t)
    return still
