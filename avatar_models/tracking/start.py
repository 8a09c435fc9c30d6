"""Where a head fit starts: the head, neutral or shaped, posed on each frame by itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from avatar_models.tracking.landmark_head import LandmarkHead
from avatar_models.tracking.problem import NUM_EYES, Problem, Seen, State, axis_angle, rotation

Array = NDArray[np.float64]
POSE_ROUNDS = 4


def first_state(model: LandmarkHead, seen: Seen, weights: Array, log_focal: float) -> State:
    """Neutral face and jaw on each frame."""
    N = len(seen.points)
    R, t = poses(np.broadcast_to(model.template, (N, *model.template.shape)), seen, weights, log_focal)
    return State(
        np.zeros(len(model.identity)), log_focal, R, t, np.zeros((N, len(model.expression))),
        np.broadcast_to(np.eye(3), (N, 3, 3)).copy(), np.zeros((N, NUM_EYES)),
    )  # fmt: skip


def between(problem: Problem, some: State, keys: NDArray[np.int64], frames: NDArray[np.int64]) -> State:
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
    R, t = poses(problem.posed(still), problem.seen, problem.weights, some.log_focal)
    posed = replace(still, R=R, t=t)
    R, t = poses(problem.posed(posed), problem.seen, problem.weights, some.log_focal)  # with slides of these views
    return replace(posed, R=R, t=t)


def poses(X: Array, seen: Seen, weights: Array, log_focal: float) -> tuple[Array, Array]:
    """R (N, 3, 3) and t (N, 3) that bring points of the head X (N, P, 3) to where they are seen.

    Scaled orthography, u = s R_xy X + place by least squares and the nearest rotation, with the points then moved to where
    they would be without perspective (DeMenthon and Davis 1995).
    """
    share = weights / weights.sum()
    middle = share @ X
    X = X - middle[:, None]
    weighted = X * share[:, None]
    inverse = np.linalg.solve(X.transpose(0, 2, 1) @ weighted, weighted.transpose(0, 2, 1))  # (N, 3, P)
    K = seen.K(log_focal)
    focal, seen_at = K[:, [0, 1], [0, 1]], seen.points - K[:, None, :2, 2]
    flat, ray = seen_at / focal[:, None], np.ones((len(X), 3))
    R = np.empty((len(X), 3, 3))
    stretched = flat
    for _ in range(POSE_ROUNDS):
        ray[:, :2] = share @ stretched
        affine = (inverse @ (stretched - ray[:, None, :2])).transpose(0, 2, 1)  # (N, 2, 3): s R_xy
        U, lengths, Vt = np.linalg.svd(affine, full_matrices=False)
        R[:, :2] = U @ Vt
        R[:, 2] = np.cross(R[:, 0], R[:, 1])
        R[R[:, 2, 2] > 0] = np.diag([1.0, -1.0, -1.0])  # seen from behind: a face looks into the camera
        depth = 1 / np.maximum(lengths.mean(1), 1e-9)
        nearer = np.clip((X @ R[:, 2, :, None])[..., 0] / depth[:, None], -0.5, 0.5)
        stretched = flat * (1 + nearer[..., None])
    return R, ray * depth[:, None] - (R @ middle[..., None])[..., 0]
