"""Where a head fit starts: the neutral head posed on each frame by itself."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from avatar_models.tracking.landmark_head import LandmarkHead
from avatar_models.tracking.problem import NUM_EYES, Seen, State

Array = NDArray[np.float64]


def first_state(model: LandmarkHead, seen: Seen, weights: Array, log_focal: float) -> State:
    """Neutral face and jaw; pose by scaled orthography: u = s R_xy X + place, least squares, then the nearest rotation."""
    N = len(seen.points)
    share = weights / weights.sum()
    middle = share @ model.template
    X = model.template - middle
    inverse = np.linalg.solve((X * share[:, None]).T @ X, (X * share[:, None]).T)  # (3, P)
    place = np.einsum("p,npi->ni", share, seen.points)
    affine = np.einsum("cp,npi->nic", inverse, seen.points - place[:, None])  # (N, 2, 3): s R_xy
    U, lengths, Vt = np.linalg.svd(affine, full_matrices=False)
    R = np.empty((N, 3, 3))
    R[:, :2] = U @ Vt
    R[:, 2] = np.cross(R[:, 0], R[:, 1])
    away = R[:, 2, 2] > 0  # seen from behind: a face looks into the camera
    R[away] = np.diag([1.0, -1.0, -1.0])
    K = seen.K(log_focal)
    depth = K[:, 0, 0] / np.maximum(lengths.mean(1), 1e-6)
    ray = np.concatenate([(place - K[:, :2, 2]) / K[:, [0, 1], [0, 1]], np.ones((N, 1))], 1)
    return State(
        np.zeros(len(model.identity)), log_focal, R, ray * depth[:, None] - R @ middle, np.zeros((N, len(model.expression))),
        np.broadcast_to(np.eye(3), (N, 3, 3)).copy(), np.zeros((N, NUM_EYES)),
    )  # fmt: skip
