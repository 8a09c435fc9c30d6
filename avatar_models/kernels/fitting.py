"""The Jacobian of projected landmarks by all unknowns of a head fit: see :mod:`avatar_models.tracking.problem`.

Rows are landmarks, u and v, over the distance between the eyes, over sigma and times the root of their robust weight; columns
are a frame's own unknowns and then those that all frames share.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from avatar_models.kernels.lanes import jit

NUM_TURNS = 5  # jaw about x, y, z; both eyes about x, y


@jit
def fill_pose_columns(
    s: Any,  # (N, P, 3) the shape's points before posing
    slides: Any,  # (N, P, 3) what is added after it
    R: Any,  # (N, 3, 3) head's frame to camera
    t: Any,  # (N, 3)
    joints: Any,  # (N, 3, 3) where jaw, left and right eye turn about
    turned: Any,  # (N, 3, 3, 3) their rotations
    weights: Any,  # (P, 3) how much a point turns with each
    moved: Any,  # (N, NUM_TURNS, P, 3) what correctives add for a turn, or (0, ...)
    focal: Any,  # (N,) pixels
    centre: Any,  # (N, 2) pixels
    observed: Any,  # (N, P, 2) pixels
    eye_distance: Any,  # (N,) pixels
    trust: Any,  # (P,)
    sigma: float,
    robust: float,  # sigmas
    turns_at: int,  # column of the first turn
    J: Any,  # out (N, P, 2, columns) float32: pose and turns are written
    r: Any,  # out (N, P, 2) float32 residuals
    rows: Any,  # out (N, P, 2, 3) float32: weighted derivative by a point of the posed head
    shape_rows: Any,  # out (N, P, 2, 3) float32: and by a point of the shape
    by_focal: Any,  # out (N, P, 2) float32: and by the focal length's logarithm
) -> None:
    """Residuals, their robust weights, and all columns but those of bases."""
    frames, points = s.shape[0], s.shape[1]
    for n in range(frames):
        R_n, f = R[n], focal[n] / eye_distance[n]
        for i in range(points):
            p0, p1, p2 = s[n, i, 0] + slides[n, i, 0], s[n, i, 1] + slides[n, i, 1], s[n, i, 2] + slides[n, i, 2]
            for j in range(3):
                w = weights[i, j]
                if w != 0.0:
                    T = turned[n, j]
                    a0, a1, a2 = s[n, i, 0] - joints[n, j, 0], s[n, i, 1] - joints[n, j, 1], s[n, i, 2] - joints[n, j, 2]
                    p0 += w * (T[0, 0] * a0 + T[0, 1] * a1 + T[0, 2] * a2 - a0)
                    p1 += w * (T[1, 0] * a0 + T[1, 1] * a1 + T[1, 2] * a2 - a1)
                    p2 += w * (T[2, 0] * a0 + T[2, 1] * a1 + T[2, 2] * a2 - a2)
            q0 = R_n[0, 0] * p0 + R_n[0, 1] * p1 + R_n[0, 2] * p2
            q1 = R_n[1, 0] * p0 + R_n[1, 1] * p1 + R_n[1, 2] * p2
            q2 = R_n[2, 0] * p0 + R_n[2, 1] * p1 + R_n[2, 2] * p2
            x, y, iz = q0 + t[n, 0], q1 + t[n, 1], 1.0 / (q2 + t[n, 2])
            u, v = f * x * iz, f * y * iz
            du = u + (centre[n, 0] - observed[n, i, 0]) / eye_distance[n]
            dv = v + (centre[n, 1] - observed[n, i, 1]) / eye_distance[n]
            k = np.sqrt(trust[i]) / (1.0 + (du * du + dv * dv) / (sigma * robust) ** 2) / sigma
            r[n, i, 0], r[n, i, 1] = k * du, k * dv
            by_focal[n, i, 0], by_focal[n, i, 1] = k * u, k * v
            for c in range(2):
                # d residual / d x, and through R to the posed head's frame
                d0 = k * f * iz if c == 0 else 0.0
                d1 = k * f * iz if c == 1 else 0.0
                d2 = -k * iz * (u if c == 0 else v)
                row = J[n, i, c]
                row[0], row[1], row[2] = q1 * d2 - q2 * d1, q2 * d0 - q0 * d2, q0 * d1 - q1 * d0
                row[3], row[4], row[5] = d0, d1, d2
                e0 = d0 * R_n[0, 0] + d1 * R_n[1, 0] + d2 * R_n[2, 0]
                e1 = d0 * R_n[0, 1] + d1 * R_n[1, 1] + d2 * R_n[2, 1]
                e2 = d0 * R_n[0, 2] + d1 * R_n[1, 2] + d2 * R_n[2, 2]
                rows[n, i, c, 0], rows[n, i, c, 1], rows[n, i, c, 2] = e0, e1, e2
                h0, h1, h2 = e0, e1, e2  # times 1 + sum_j w_j (R_j - 1)
                for k_ in range(NUM_TURNS):
                    row[turns_at + k_] = 0.0
                for j in range(3):
                    w = weights[i, j]
                    if w != 0.0:
                        T = turned[n, j]
                        h0 += w * (e0 * T[0, 0] + e1 * T[1, 0] + e2 * T[2, 0] - e0)
                        h1 += w * (e0 * T[0, 1] + e1 * T[1, 1] + e2 * T[2, 1] - e1)
                        h2 += w * (e0 * T[0, 2] + e1 * T[1, 2] + e2 * T[2, 2] - e2)
                        a0, a1, a2 = s[n, i, 0] - joints[n, j, 0], s[n, i, 1] - joints[n, j, 1], s[n, i, 2] - joints[n, j, 2]
                        b0 = w * (T[0, 0] * a0 + T[0, 1] * a1 + T[0, 2] * a2)
                        b1 = w * (T[1, 0] * a0 + T[1, 1] * a1 + T[1, 2] * a2)
                        b2 = w * (T[2, 0] * a0 + T[2, 1] * a1 + T[2, 2] * a2)
                        at = turns_at if j == 0 else turns_at + 3
                        row[at] += b1 * e2 - b2 * e1  # a turn by omega moves the arm b by omega x b
                        row[at + 1] += b2 * e0 - b0 * e2
                        if j == 0:
                            row[at + 2] += b0 * e1 - b1 * e0
                shape_rows[n, i, c, 0], shape_rows[n, i, c, 1], shape_rows[n, i, c, 2] = h0, h1, h2
                if len(moved):
                    for k_ in range(NUM_TURNS):
                        m = moved[n, k_, i]
                        row[turns_at + k_] += h0 * m[0] + h1 * m[1] + h2 * m[2]


@jit
def fill_basis_columns(J: Any, first: int, rows: Any, columns: Any) -> None:
    """J[n, p, i, first + k] = sum_j rows[n, p, i, j] columns[p, j, k].

    J (N, P, 2, C) float32, rows (N, P, 2, 3) float32, columns (P, 3, K) float32.
    """
    frames, points, K = len(rows), len(columns), columns.shape[2]
    u = np.uint64
    for n in range(frames):
        for p in range(points):
            x, y, z = columns[p, 0], columns[p, 1], columns[p, 2]
            for i in range(2):
                a, b, c = rows[n, p, i, 0], rows[n, p, i, 1], rows[n, p, i, 2]
                out = J[n, p, i, first : first + K]
                for k in range(u(K)):
                    out[k] = a * x[k] + b * y[k] + c * z[k]
