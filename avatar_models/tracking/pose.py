"""The pose of known points of a head from where they are seen in one picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
POSE_ROUNDS = 4


def poses(X: Array, points: Array, K: Array, weights: Array) -> tuple[Array, Array]:
    """R (N, 3, 3) and t (N, 3) that bring points X (N, P, 3) of the head to where they are seen, (N, P, 2) pixels; K (N, 3, 3).

    Scaled orthography, u = s R_xy X + place by least squares and the nearest rotation, with the points then moved to where
    they would be without perspective (DeMenthon and Davis 1995).
    """
    share = weights / weights.sum()
    middle = share @ X
    X = X - middle[:, None]
    weighted = X * share[:, None]
    inverse = np.linalg.solve(X.transpose(0, 2, 1) @ weighted, weighted.transpose(0, 2, 1))  # (N, 3, P)
    focal, seen_at = K[:, [0, 1], [0, 1]], points - K[:, None, :2, 2]
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
