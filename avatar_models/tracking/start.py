"""Where a head fit starts: the head, neutral or shaped, posed on each frame by itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from avatar_models.tracking.problem import Problem, State, axis_angle, rotation
from avatar_models.tracking.smoothness import NUM_EYES
from avatar_models.tracking.views import ViewsProblem

Array = NDArray[np.float64]


def first_state(problem: Problem | ViewsProblem, log_focal: float) -> State:
    """Neutral face and jaw on each frame."""
    N, model = problem.num_frames, problem.model
    R, t = problem.poses(np.broadcast_to(model.template, (N, *model.template.shape)), log_focal)
    return State(
        np.zeros(len(model.identity)), log_focal, R, t, np.zeros((N, len(model.expression))),
        np.broadcast_to(np.eye(3), (N, 3, 3)).copy(), np.zeros((N, NUM_EYES)),
    )  # fmt: skip


def between(problem: Problem | ViewsProblem, some: State, keys: NDArray[np.int64], frames: NDArray[np.int64]) -> State:
    """Frames with the identity of some (`keys`, in the same numbers), and with expression, jaw and eyes as between those.

    Each is posed by itself. `problem` is of `frames`.
    """
    if np.array_equal(keys, frames):
        return some

    def at(values: Array) -> Array:  # (keys, K) -> (N, K)
        return np.stack([np.interp(frames, keys, column) for column in values.T], 1)

    N = len(frames)
    still = State(
        some.identity, some.log_focal, np.tile(np.diag([1.0, -1.0, -1.0]), (N, 1, 1)), np.tile([0.0, 0.0, 1.0], (N, 1)),
        at(some.expression), rotation(at(axis_angle(some.R_jaw))), at(some.eyes),
    )  # fmt: skip
    for _ in range(2):  # the second time with the detector's slides of these views
        R, t = problem.poses(problem.posed(still), some.log_focal)
        still = replace(still, R=R, t=t)
    return still
