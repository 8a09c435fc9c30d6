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
def _posed_point(s: Any, slide: Any, R: Any, joints: Any, turned: Any, weights: Any) -> Any:
    """A point (3,) of the shape, posed, and turned into the camera's frame but not moved there: three floats."""
    p0, p1, p2 = s[0] + slide[0], s[1] + slide[1], s[2] + slide[2]
    for j in range(3):
        w = weights[j]
        if w != 0.0:
            T = turned[j]
            a0, a1, a2 = s[0] - joints[j, 0], s[1] - joints[j, 1], s[2] - joints[j, 2]
            p0 += w * (T[0, 0] * a0 + T[0, 1] * a1 + T[0, 2] * a2 - a0)
            p1 += w * (T[1, 0] * a0 + T[1, 1] * a1 + T[1, 2] * a2 - a1)
            p2 += w * (T[2, 0] * a0 + T[2, 1] * a1 + T[2, 2] * a2 - a2)
    return (
        R[0, 0] * p0 + R[0, 1] * p1 + R[0, 2] * p2,
        R[1, 0] * p0 + R[1, 1] * p1 + R[1, 2] * p2,
        R[2, 0] * p0 + R[2, 1] * p1 + R[2, 2] * p2,
    )


@jit
def pose_points(s: Any, slides: Any, R: Any, joints: Any, turned: Any, weights: Any, posed: Any) -> None:
    """The head's points turned into the camera's frame, posed (N, P, 3) is written; the others as for `project_points`."""
    for n in range(s.shape[0]):
        for i in range(s.shape[1]):
            posed[n, i] = _posed_point(s[n, i], slides[n, i], R[n], joints[n], turned[n], weights[i])


@jit
def project_points(
    s: Any,  # (N, P, 3) the shape's points before posing
    slides: Any,  # (N, P, 3) what is added after it
    R: Any,  # (N, 3, 3) head's frame to camera
    t: Any,  # (N, 3)
    joints: Any,  # (N, 3, 3) where jaw, left and right eye turn about
    turned: Any,  # (N, 3, 3, 3) their rotations
    weights: Any,  # (P, 3) how much a point turns with each
    focal: Any,  # (N, 2) pixels
    centre: Any,  # (N, 2) pixels
    pixels: Any,  # out (N, P, 2)
) -> None:
    """Where the head's points are seen."""
    for n in range(s.shape[0]):
        for i in range(s.shape[1]):
            q0, q1, q2 = _posed_point(s[n, i], slides[n, i], R[n], joints[n], turned[n], weights[i])
            iz = 1.0 / (q2 + t[n, 2])
            pixels[n, i, 0] = focal[n, 0] * (q0 + t[n, 0]) * iz + centre[n, 0]
            pixels[n, i, 1] = focal[n, 1] * (q1 + t[n, 1]) * iz + centre[n, 1]


@jit
def robust_cost(
    s: Any,  # (N, P, 3) and so on, as for `project_points`
    slides: Any,
    R: Any,
    t: Any,
    joints: Any,
    turned: Any,
    weights: Any,
    focal: Any,
    centre: Any,
    observed: Any,  # (N, P, 2) pixels
    eye_distance: Any,  # (N,) pixels
    trust: Any,  # (P,)
    sigma: float,
    robust: float,  # sigmas
) -> float:
    """sum trust x / (1 + x / robust^2) with x the squared residuals over sigma^2 (Geman-McClure)."""
    total = 0.0
    for n in range(s.shape[0]):
        k = 1.0 / (eye_distance[n] * sigma)
        for i in range(s.shape[1]):
            q0, q1, q2 = _posed_point(s[n, i], slides[n, i], R[n], joints[n], turned[n], weights[i])
            iz = 1.0 / (q2 + t[n, 2])
            du = k * (focal[n, 0] * (q0 + t[n, 0]) * iz + centre[n, 0] - observed[n, i, 0])
            dv = k * (focal[n, 1] * (q1 + t[n, 1]) * iz + centre[n, 1] - observed[n, i, 1])
            squared = du * du + dv * dv
            total += trust[i] * squared / (1.0 + squared / (robust * robust))
    return total


@jit
def fill_pose_columns(
    s: Any,  # (N, P, 3) and so on, as for `project_points`
    slides: Any,
    R: Any,
    t: Any,
    joints: Any,
    turned: Any,
    weights: Any,
    focal: Any,
    centre: Any,
    moved: Any,  # (N, NUM_TURNS, P, 3) what correctives add for a turn, or (0, ...)
    observed: Any,  # (N, P, 2) pixels
    eye_distance: Any,  # (N,) pixels
    trust: Any,  # (P,)
    sigma: float,
    robust: float,  # sigmas
    turns_at: int,  # column of the first turn
    J: Any,  # out (N, P, 2, columns) float32: pose, turns and, last, residuals are written
    rows: Any,  # out (N, P, 2, 3) float32: weighted derivative by a point of the posed head
    shape_rows: Any,  # out (N, P, 2, 3) float32: and by a point of the shape
    by_focal: Any,  # out (N, P, 2) float32: and by the focal length's logarithm
) -> None:
    """Residuals, their robust weights, and all columns but those of bases."""
    frames, points = s.shape[0], s.shape[1]
    for n in range(frames):
        R_n, f0, f1 = R[n], focal[n, 0] / eye_distance[n], focal[n, 1] / eye_distance[n]
        for i in range(points):
            q0, q1, q2 = _posed_point(s[n, i], slides[n, i], R_n, joints[n], turned[n], weights[i])
            x, y, iz = q0 + t[n, 0], q1 + t[n, 1], 1.0 / (q2 + t[n, 2])
            u, v = f0 * x * iz, f1 * y * iz
            du = u + (centre[n, 0] - observed[n, i, 0]) / eye_distance[n]
            dv = v + (centre[n, 1] - observed[n, i, 1]) / eye_distance[n]
            k = np.sqrt(trust[i]) / (1.0 + (du * du + dv * dv) / (sigma * robust) ** 2) / sigma
            J[n, i, 0, -1], J[n, i, 1, -1] = k * du, k * dv
            by_focal[n, i, 0], by_focal[n, i, 1] = k * u, k * v
            for c in range(2):
                # d residual / d x, and through R to the posed head's frame
                d0 = k * f0 * iz if c == 0 else 0.0
                d1 = k * f1 * iz if c == 1 else 0.0
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


@jit
def add_joint_columns(J: Any, first: int, rows: Any, weights: Any, moved: Any) -> None:
    """J[n, p, i, first + k] += sum_j weights[p, j] sum_c rows[n, p, i, c] moved[n, j, c, k].

    J (N, P, 2, C) float32, rows (N, P, 2, 3) float32, weights (P, 3), moved (N, 3, 3, K) float32.
    """
    K = moved.shape[3]
    u = np.uint64
    for n in range(len(rows)):
        for p in range(len(weights)):
            for j in range(3):
                w = np.float32(weights[p, j])
                if w == 0.0:
                    continue
                x, y, z = moved[n, j, 0], moved[n, j, 1], moved[n, j, 2]
                for i in range(2):
                    a, b, c = w * rows[n, p, i, 0], w * rows[n, p, i, 1], w * rows[n, p, i, 2]
                    out = J[n, p, i, first : first + K]
                    for k in range(u(K)):
                        out[k] += a * x[k] + b * y[k] + c * z[k]


@jit
def pull_back(rows: Any, residuals: Any, pulled: Any) -> None:
    """pulled[n, p, c] = sum_i rows[n, p, i, c] residuals[n, p, i]: a cost's gradient by points from that by pixels.

    rows (N, P, 2, 3), residuals (N, P, 2), pulled (N, P, 3) is written; all float32.
    """
    for n in range(len(rows)):
        for p in range(rows.shape[1]):
            u, v = residuals[n, p, 0], residuals[n, p, 1]
            for c in range(3):
                pulled[n, p, c] = rows[n, p, 0, c] * u + rows[n, p, 1, c] * v
