"""Colours of spherical harmonics seen along a direction, and their gradient. Degree 0 to 3, 3DGS's order and signs."""

from __future__ import annotations

from typing import Any

import numpy as np

from avatar_models.kernels.lanes import fetch_add, jit
from avatar_models.kernels.maths import f4

CHUNK = 256
MAX_K = 16

C0 = f4(0.28209479177387814)
C1 = f4(0.4886025119029199)
C2A, C2B, C2C = f4(1.0925484305920792), f4(0.31539156525252005), f4(0.5462742152960396)
C3A, C3B, C3C, C3D, C3E = (
    f4(0.5900435899266435), f4(2.890611442640554), f4(0.4570457994644658), f4(0.3731763325901154), f4(1.445305721320277),
)  # fmt: skip


@jit
def _basis(Y: Any, K: int, x: Any, y: Any, z: Any) -> None:
    """Y (K,) of a unit direction."""
    Y[0] = C0
    if K > 1:
        Y[1], Y[2], Y[3] = -C1 * y, C1 * z, -C1 * x
    if K > 4:
        Y[4], Y[5], Y[7] = C2A * x * y, -C2A * y * z, -C2A * x * z
        Y[6], Y[8] = C2B * (f4(2) * z * z - x * x - y * y), C2C * (x * x - y * y)
    if K > 9:
        xx, yy, zz = x * x, y * y, z * z
        Y[9], Y[10] = -C3A * y * (f4(3) * xx - yy), C3B * x * y * z
        Y[11], Y[12] = -C3C * y * (f4(4) * zz - xx - yy), C3D * z * (f4(2) * zz - f4(3) * xx - f4(3) * yy)
        Y[13], Y[14], Y[15] = -C3C * x * (f4(4) * zz - xx - yy), C3E * z * (xx - yy), -C3A * x * (xx - f4(3) * yy)


@jit
def _direction_gradient(g: Any, K: int, x: Any, y: Any, z: Any) -> Any:
    """sum_k g[k] dY[k] / d(x, y, z)."""
    vx = vy = vz = f4(0.0)
    if K > 1:
        vx, vy, vz = -C1 * g[3], -C1 * g[1], C1 * g[2]
    if K > 4:
        vx += C2A * (y * g[4] - z * g[7]) - f4(2) * C2B * x * g[6] + f4(2) * C2C * x * g[8]
        vy += C2A * (x * g[4] - z * g[5]) - f4(2) * C2B * y * g[6] - f4(2) * C2C * y * g[8]
        vz += -C2A * (y * g[5] + x * g[7]) + f4(4) * C2B * z * g[6]
    if K > 9:
        xx, yy, zz, xy, xz, yz = x * x, y * y, z * z, x * y, x * z, y * z
        vx += f4(-6) * C3A * xy * g[9] + C3B * yz * g[10] + f4(2) * C3C * xy * g[11] - f4(6) * C3D * xz * g[12]
        vx += -C3C * (f4(4) * zz - f4(3) * xx - yy) * g[13] + f4(2) * C3E * xz * g[14] - f4(3) * C3A * (xx - yy) * g[15]
        vy += f4(-3) * C3A * (xx - yy) * g[9] + C3B * xz * g[10] - C3C * (f4(4) * zz - xx - f4(3) * yy) * g[11]
        vy += f4(-6) * C3D * yz * g[12] + f4(2) * C3C * xy * g[13] - f4(2) * C3E * yz * g[14] + f4(6) * C3A * xy * g[15]
        vz += C3B * xy * g[10] - f4(8) * C3C * yz * g[11] + C3D * (f4(6) * zz - f4(3) * xx - f4(3) * yy) * g[12]
        vz += f4(-8) * C3C * xz * g[13] + C3E * (xx - yy) * g[14]
    return vx, vy, vz


@jit
def forward(claims: Any, means: Any, centre: Any, coefficients: Any, colors: Any, finite: Any) -> None:
    """means (N, 3), the camera's centre (3,), coefficients (N, K, 3) -> colors (N, 3), negatives cut off."""
    count, K = len(means), coefficients.shape[1]
    Y = np.empty(MAX_K, np.float32)
    while True:
        chunk = fetch_add(claims, 0, 1)
        start = chunk * CHUNK
        if start >= count:
            break
        bad = f4(0.0)
        for i in range(start, min(start + CHUNK, count)):
            x, y, z = means[i, 0] - centre[0], means[i, 1] - centre[1], means[i, 2] - centre[2]
            length = np.sqrt(x * x + y * y + z * z)
            unit = f4(1.0) / max(length, f4(1e-12))
            _basis(Y, K, x * unit, y * unit, z * unit)
            r = g = b = f4(0.5)
            for k in range(K):
                r += Y[k] * coefficients[i, k, 0]
                g += Y[k] * coefficients[i, k, 1]
                b += Y[k] * coefficients[i, k, 2]
            bad += (r + g + b) * f4(0.0)
            colors[i, 0], colors[i, 1], colors[i, 2] = max(r, f4(0.0)), max(g, f4(0.0)), max(b, f4(0.0))
        finite[chunk] = bad
        fetch_add(claims, 8, 1)


@jit
def backward(
    claims: Any,
    means: Any,
    centre: Any,
    coefficients: Any,
    colors: Any,
    v_colors: Any,  # (N, 3)
    v_means: Any,  # out (N, 3)
    v_coefficients: Any,  # out (N, K, 3)
    v_centre: Any,  # out (chunks, 3): each chunk's share
) -> None:
    count, K = len(means), coefficients.shape[1]
    Y, g = np.empty(MAX_K, np.float32), np.empty(MAX_K, np.float32)
    while True:
        chunk = fetch_add(claims, 0, 1)
        start = chunk * CHUNK
        if start >= count:
            break
        cx = cy = cz = f4(0.0)
        for i in range(start, min(start + CHUNK, count)):
            x, y, z = means[i, 0] - centre[0], means[i, 1] - centre[1], means[i, 2] - centre[2]
            unit = f4(1.0) / max(np.sqrt(x * x + y * y + z * z), f4(1e-12))
            x, y, z = x * unit, y * unit, z * unit
            vr = v_colors[i, 0] if colors[i, 0] > f4(0.0) else f4(0.0)
            vg = v_colors[i, 1] if colors[i, 1] > f4(0.0) else f4(0.0)
            vb = v_colors[i, 2] if colors[i, 2] > f4(0.0) else f4(0.0)
            _basis(Y, K, x, y, z)
            for k in range(K):
                v_coefficients[i, k, 0], v_coefficients[i, k, 1], v_coefficients[i, k, 2] = Y[k] * vr, Y[k] * vg, Y[k] * vb
                g[k] = coefficients[i, k, 0] * vr + coefficients[i, k, 1] * vg + coefficients[i, k, 2] * vb
            vx, vy, vz = _direction_gradient(g, K, x, y, z)
            along = vx * x + vy * y + vz * z
            vx, vy, vz = (vx - along * x) * unit, (vy - along * y) * unit, (vz - along * z) * unit
            v_means[i, 0], v_means[i, 1], v_means[i, 2] = vx, vy, vz
            cx, cy, cz = cx - vx, cy - vy, cz - vz
        v_centre[chunk, 0], v_centre[chunk, 1], v_centre[chunk, 2] = cx, cy, cz
        fetch_add(claims, 8, 1)
