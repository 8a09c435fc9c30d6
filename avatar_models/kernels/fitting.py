"""The Jacobian of projected landmarks by all unknowns of a head fit: see :mod:`avatar_models.tracking.problem`.

Rows are landmarks, u and v; columns are a frame's own unknowns and then those that all frames share. What differs from
landmark to landmark is a few products of 2 x 3 matrices; the long part is three multiply-adds for each basis vector.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from avatar_models.kernels.lanes import jit
from avatar_models.kernels.maths import f4


@jit
def fill_basis_columns(J: Any, first: int, rows: Any, columns: Any, scale: Any) -> None:
    """J[n, p, i, first + k] = scale[n, p] sum_j rows[n, p, i, j] columns[p, j, k].

    J (N, P, 2, C) float32, rows (N, P, 2, 3) float32, columns (P, 3, K) float32, scale (N, P) float32.
    """
    frames, points, K = len(rows), len(columns), columns.shape[2]
    u = np.uint64
    for n in range(frames):
        for p in range(points):
            w = scale[n, p]
            x, y, z = columns[p, 0], columns[p, 1], columns[p, 2]
            for i in range(2):
                a, b, c = w * rows[n, p, i, 0], w * rows[n, p, i, 1], w * rows[n, p, i, 2]
                out = J[n, p, i, first : first + K]
                for k in range(u(K)):
                    out[k] = a * x[k] + b * y[k] + c * z[k]


@jit
def fill_turn_columns(J: Any, first: int, rows: Any, arms: Any, scale: Any) -> None:
    """J[n, p, i, first : first + 3] = scale[n, p] arms[n, p] x rows[n, p, i]: the derivative by a turn of the arms.

    A turn by omega moves the arm a by omega x a, and d . (omega x a) = omega . (a x d). arms (N, P, 3) float32.
    """
    frames, points = arms.shape[0], arms.shape[1]
    for n in range(frames):
        for p in range(points):
            w = scale[n, p]
            x, y, z = arms[n, p, 0], arms[n, p, 1], arms[n, p, 2]
            for i in range(2):
                a, b, c = rows[n, p, i, 0], rows[n, p, i, 1], rows[n, p, i, 2]
                J[n, p, i, first] = w * (y * c - z * b)
                J[n, p, i, first + 1] = w * (z * a - x * c)
                J[n, p, i, first + 2] = w * (x * b - y * a)


@jit
def camera_rows(x: Any, focal: Any, eye_distance: Any, out: Any) -> None:
    """d (u, v) / d x of pinhole projection over the eyes' distance.

    x (N, P, 3), focal (N,), eye_distance (N,) -> out (N, P, 2, 3) float32.
    """
    for n in range(len(x)):
        f = focal[n] / eye_distance[n]
        for p in range(x.shape[1]):
            inverse = 1.0 / x[n, p, 2]
            g = f * inverse
            out[n, p, 0, 0], out[n, p, 0, 1], out[n, p, 0, 2] = f4(g), f4(0.0), f4(-g * inverse * x[n, p, 0])
            out[n, p, 1, 0], out[n, p, 1, 1], out[n, p, 1, 2] = f4(0.0), f4(g), f4(-g * inverse * x[n, p, 1])
