"""EWA projection of Gaussians to one camera, and its gradient. Equations: Kerbl et al. 2023, 5 and 6.

Gaussians are done CHUNK at a time: a chunk is copied into one scratch array with a row for each quantity, so that all
arithmetic runs on rows side by side (vectors, and no question of two arrays overlapping). Chunks also fix the order of
the sums over Gaussians, so results do not depend on the number of threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from avatar_models.kernels.lanes import fetch_add, jit
from avatar_models.kernels.maths import f4, log

CHUNK = 256
ROWS = 64
"""Rows of a chunk's scratch: ROWS * CHUNK float32."""

ALPHA_MIN = f4(1.0 / 255.0)

# Rows of the scratch, by what they hold.
X, Y, Z = 0 * CHUNK, 1 * CHUNK, 2 * CHUNK  # the mean in the world
QW, QX, QY, QZ = 3 * CHUNK, 4 * CHUNK, 5 * CHUNK, 6 * CHUNK
SX, SY, SZ = 7 * CHUNK, 8 * CHUNK, 9 * CHUNK
XX, XY, XZ, YY, YZ, ZZ = (row * CHUNK for row in range(10, 16))  # Sigma
OPACITY = 16 * CHUNK
MX, MY, A, B, C, DEPTH, OPACITY2D, RX, RY = (row * CHUNK for row in range(17, 26))
# Gradients, in backward
V_MX, V_MY, V_A, V_B, V_C, V_DEPTH, V_OPACITY2D, SEEN = (row * CHUNK for row in range(26, 34))
V_X, V_Y, V_Z, V_OPACITY = (row * CHUNK for row in range(34, 38))
V_XX, V_XY, V_XZ, V_YY, V_YZ, V_ZZ = (row * CHUNK for row in range(38, 44))
V_QW, V_QX, V_QY, V_QZ, V_SX, V_SY, V_SZ = (row * CHUNK for row in range(44, 51))
PX, PY, PZ = (row * CHUNK for row in range(51, 54))  # gradient of the mean in the camera's frame
N00, N01, N02, N10, N11, N12 = (row * CHUNK for row in range(54, 60))  # gradient of M = J W


@jit
def _covariances_of_chunk(s: Any, n: int) -> None:
    """Sigma = N N^T with N = R diag(scales), R the rotation of the normalised quaternion."""
    for i in range(n):
        w, x, y, z = s[QW + i], s[QX + i], s[QY + i], s[QZ + i]
        unit = f4(1.0) / np.sqrt(w * w + x * x + y * y + z * z)
        w, x, y, z = w * unit, x * unit, y * unit, z * unit
        sx, sy, sz = s[SX + i], s[SY + i], s[SZ + i]
        n00, n01, n02 = (f4(1) - f4(2) * (y * y + z * z)) * sx, f4(2) * (x * y - w * z) * sy, f4(2) * (x * z + w * y) * sz
        n10, n11, n12 = f4(2) * (x * y + w * z) * sx, (f4(1) - f4(2) * (x * x + z * z)) * sy, f4(2) * (y * z - w * x) * sz
        n20, n21, n22 = f4(2) * (x * z - w * y) * sx, f4(2) * (y * z + w * x) * sy, (f4(1) - f4(2) * (x * x + y * y)) * sz
        s[XX + i] = n00 * n00 + n01 * n01 + n02 * n02
        s[XY + i] = n00 * n10 + n01 * n11 + n02 * n12
        s[XZ + i] = n00 * n20 + n01 * n21 + n02 * n22
        s[YY + i] = n10 * n10 + n11 * n11 + n12 * n12
        s[YZ + i] = n10 * n20 + n11 * n21 + n12 * n22
        s[ZZ + i] = n20 * n20 + n21 * n21 + n22 * n22


@jit
def _covariances_of_chunk_backward(s: Any, n: int) -> None:
    """v_N = (v_Sigma + v_Sigma^T) N, and from there to the scales and through R to the quaternion."""
    for i in range(n):
        w, x, y, z = s[QW + i], s[QX + i], s[QY + i], s[QZ + i]
        unit = f4(1.0) / np.sqrt(w * w + x * x + y * y + z * z)
        w, x, y, z = w * unit, x * unit, y * unit, z * unit
        seen = s[SEEN + i] > f4(0.0)
        sx, sy, sz = s[SX + i] if seen else f4(0.0), s[SY + i] if seen else f4(0.0), s[SZ + i] if seen else f4(0.0)
        r00, r01, r02 = f4(1) - f4(2) * (y * y + z * z), f4(2) * (x * y - w * z), f4(2) * (x * z + w * y)
        r10, r11, r12 = f4(2) * (x * y + w * z), f4(1) - f4(2) * (x * x + z * z), f4(2) * (y * z - w * x)
        r20, r21, r22 = f4(2) * (x * z - w * y), f4(2) * (y * z + w * x), f4(1) - f4(2) * (x * x + y * y)
        # twice the symmetric gradient: off-diagonal entries carry the sum of both places
        gxx, gyy, gzz = f4(2) * s[V_XX + i], f4(2) * s[V_YY + i], f4(2) * s[V_ZZ + i]
        gxy, gxz, gyz = f4(2) * s[V_XY + i], f4(2) * s[V_XZ + i], f4(2) * s[V_YZ + i]
        # G R, a column for each axis; v_R = G R diag(s^2), v_s = s * diag(R^T G R)
        h00, h10, h20 = gxx * r00 + gxy * r10 + gxz * r20, gxy * r00 + gyy * r10 + gyz * r20, gxz * r00 + gyz * r10 + gzz * r20
        h01, h11, h21 = gxx * r01 + gxy * r11 + gxz * r21, gxy * r01 + gyy * r11 + gyz * r21, gxz * r01 + gyz * r11 + gzz * r21
        h02, h12, h22 = gxx * r02 + gxy * r12 + gxz * r22, gxy * r02 + gyy * r12 + gyz * r22, gxz * r02 + gyz * r12 + gzz * r22
        s[V_SX + i] = sx * (r00 * h00 + r10 * h10 + r20 * h20)
        s[V_SY + i] = sy * (r01 * h01 + r11 * h11 + r21 * h21)
        s[V_SZ + i] = sz * (r02 * h02 + r12 * h12 + r22 * h22)
        sx2, sy2, sz2 = sx * sx, sy * sy, sz * sz
        h00, h10, h20 = h00 * sx2, h10 * sx2, h20 * sx2
        h01, h11, h21 = h01 * sy2, h11 * sy2, h21 * sy2
        h02, h12, h22 = h02 * sz2, h12 * sz2, h22 * sz2
        vw = f4(2) * (x * (h21 - h12) + y * (h02 - h20) + z * (h10 - h01))
        vx = f4(2) * (y * (h01 + h10) + z * (h02 + h20) + w * (h21 - h12) - f4(2) * x * (h11 + h22))
        vy = f4(2) * (x * (h01 + h10) + z * (h12 + h21) + w * (h02 - h20) - f4(2) * y * (h00 + h22))
        vz = f4(2) * (x * (h02 + h20) + y * (h12 + h21) + w * (h10 - h01) - f4(2) * z * (h00 + h11))
        along = vw * w + vx * x + vy * y + vz * z  # the length of the quaternion means nothing
        s[V_QW + i], s[V_QX + i] = (vw - along * w) * unit, (vx - along * x) * unit
        s[V_QY + i], s[V_QZ + i] = (vy - along * y) * unit, (vz - along * z) * unit


@jit
def _load(s: Any, start: int, n: int, means: Any, quats: Any, scales: Any, covariances: Any, opacities: Any) -> Any:
    """Copies a chunk in and gives NaN if any of it is not finite, else 0."""
    bad = f4(0.0)
    for i in range(n):
        k = start + i
        s[X + i], s[Y + i], s[Z + i] = means[k, 0], means[k, 1], means[k, 2]
        s[OPACITY + i] = opacities[k]
        bad += (means[k, 0] + means[k, 1] + means[k, 2] + opacities[k]) * f4(0.0)  # NaN where one is not finite
    if len(covariances):
        for i in range(n):
            k = start + i
            s[XX + i], s[YY + i], s[ZZ + i] = covariances[k, 0, 0], covariances[k, 1, 1], covariances[k, 2, 2]
            s[XY + i] = f4(0.5) * (covariances[k, 0, 1] + covariances[k, 1, 0])
            s[XZ + i] = f4(0.5) * (covariances[k, 0, 2] + covariances[k, 2, 0])
            s[YZ + i] = f4(0.5) * (covariances[k, 1, 2] + covariances[k, 2, 1])
            bad += (s[XX + i] + s[YY + i] + s[ZZ + i] + s[XY + i] + s[XZ + i] + s[YZ + i]) * f4(0.0)
    else:
        for i in range(n):
            k = start + i
            s[QW + i], s[QX + i], s[QY + i], s[QZ + i] = quats[k, 0], quats[k, 1], quats[k, 2], quats[k, 3]
            s[SX + i], s[SY + i], s[SZ + i] = scales[k, 0], scales[k, 1], scales[k, 2]
            norm2 = quats[k, 0] ** 2 + quats[k, 1] ** 2 + quats[k, 2] ** 2 + quats[k, 3] ** 2
            bad += (norm2 + f4(1.0) / norm2) * f4(0.0)
            bad += (scales[k, 0] + scales[k, 1] + scales[k, 2]) * f4(0.0)
        _covariances_of_chunk(s, n)
    return bad


@jit
def forward(
    claims: Any,  # (16,) int64, zeros
    scratch: Any,  # (ROWS * CHUNK,)
    means: Any,  # (N, 3)
    quats: Any,  # (N, 4), or (0, 4) with covariances
    scales: Any,  # (N, 3), or (0, 3) with covariances
    covariances: Any,  # (N, 3, 3), or (0, 3, 3)
    opacities: Any,  # (N,)
    camera: Any,  # (23,) viewmat[:3] (12), fx fy cx cy, width height, near far, radius_clip eps2d antialiased
    means2d: Any,  # out (N, 2) pixels
    conics: Any,  # out (N, 3) A B C: the inverse of [[A, B], [B, C]] is the screen covariance
    depths: Any,  # out (N,)
    opacities2d: Any,  # out (N,)
    extents: Any,  # out (N, 2) pixels: half the box in which alpha is at least 1/255; -1 where not seen
    finite: Any,  # out (chunks,) NaN where a chunk has a value that is not finite
) -> None:
    """Projects chunks until none is left; several threads may run it with the same claims."""
    s = scratch
    count = len(means)
    w00, w01, w02, w10, w11, w12 = camera[0], camera[1], camera[2], camera[4], camera[5], camera[6]
    w20, w21, w22 = camera[8], camera[9], camera[10]
    t0, t1, t2 = camera[3], camera[7], camera[11]
    fx, fy, cx, cy, width, height = camera[12], camera[13], camera[14], camera[15], camera[16], camera[17]
    near, far = camera[18], camera[19]
    radius_clip, eps2d, antialiased = camera[20], camera[21], camera[22] > 0
    low_x, high_x = -cx / fx - f4(0.15) * width / fx, (width - cx) / fx + f4(0.15) * width / fx
    low_y, high_y = -cy / fy - f4(0.15) * height / fy, (height - cy) / fy + f4(0.15) * height / fy
    while True:
        chunk = fetch_add(claims, 0, 1)
        start = chunk * CHUNK
        if start >= count:
            break
        n = min(CHUNK, count - start)
        finite[chunk] = _load(s, start, n, means, quats, scales, covariances, opacities)
        for i in range(n):
            x = w00 * s[X + i] + w01 * s[Y + i] + w02 * s[Z + i] + t0
            y = w10 * s[X + i] + w11 * s[Y + i] + w12 * s[Z + i] + t1
            depth = w20 * s[X + i] + w21 * s[Y + i] + w22 * s[Z + i] + t2
            seen = (depth >= near) & (depth <= far)
            z = depth if seen else f4(1.0)
            iz = f4(1.0) / z
            mx, my = fx * x * iz + cx, fy * y * iz + cy
            lx, ly = x * iz, y * iz
            lx = low_x if lx < low_x else lx
            lx = high_x if lx > high_x else lx
            ly = low_y if ly < low_y else ly
            ly = high_y if ly > high_y else ly
            # M = J W; its rows are gradients of the screen place
            gx, gy = fx * iz, fy * iz
            m00, m01, m02 = gx * (w00 - lx * w20), gx * (w01 - lx * w21), gx * (w02 - lx * w22)
            m10, m11, m12 = gy * (w10 - ly * w20), gy * (w11 - ly * w21), gy * (w12 - ly * w22)
            xx, xy, xz, yy, yz, zz = s[XX + i], s[XY + i], s[XZ + i], s[YY + i], s[YZ + i], s[ZZ + i]
            p0, p1, p2 = m00 * xx + m01 * xy + m02 * xz, m00 * xy + m01 * yy + m02 * yz, m00 * xz + m01 * yz + m02 * zz
            q0, q1, q2 = m10 * xx + m11 * xy + m12 * xz, m10 * xy + m11 * yy + m12 * yz, m10 * xz + m11 * yz + m12 * zz
            a, b, c = p0 * m00 + p1 * m01 + p2 * m02, p0 * m10 + p1 * m11 + p2 * m12, q0 * m10 + q1 * m11 + q2 * m12
            before = a * c - b * b
            a, c = a + eps2d, c + eps2d
            det = a * c - b * b
            seen = seen & (det > f4(0.0))
            inverse = f4(1.0) / (det if seen else f4(1.0))
            share = before * inverse
            share = share if share > f4(0.0) else f4(0.0)
            opacity = s[OPACITY + i]
            opacity = opacity * np.sqrt(share) if antialiased else opacity
            seen = seen & (opacity >= ALPHA_MIN)
            reach = f4(2.0) * log((opacity if seen else f4(1.0)) * f4(255.0))
            reach = reach if reach > f4(0.0) else f4(0.0)
            rx, ry = np.sqrt(reach * (a if seen else f4(1.0))), np.sqrt(reach * (c if seen else f4(1.0)))
            # the box in whole pixels decides what is culled, as in gsplat
            rx_up, ry_up = np.ceil(rx), np.ceil(ry)
            seen = seen & (mx + rx_up > f4(0.0)) & (mx - rx_up < width) & (my + ry_up > f4(0.0)) & (my - ry_up < height)
            seen = seen & ((rx_up > radius_clip) | (ry_up > radius_clip))
            s[MX + i], s[MY + i], s[DEPTH + i], s[OPACITY2D + i] = mx, my, z, opacity
            s[A + i], s[B + i], s[C + i] = c * inverse, -b * inverse, a * inverse
            s[RX + i], s[RY + i] = rx if seen else f4(-1.0), ry if seen else f4(-1.0)
        for i in range(n):
            k = start + i
            means2d[k, 0], means2d[k, 1] = s[MX + i], s[MY + i]
            conics[k, 0], conics[k, 1], conics[k, 2] = s[A + i], s[B + i], s[C + i]
            depths[k], opacities2d[k] = s[DEPTH + i], s[OPACITY2D + i]
            extents[k, 0], extents[k, 1] = s[RX + i], s[RY + i]
        fetch_add(claims, 8, 1)


@jit
def backward(
    claims: Any,
    scratch: Any,
    means: Any,
    quats: Any,
    scales: Any,
    covariances: Any,
    opacities: Any,
    camera: Any,
    extents: Any,
    v_means2d: Any,  # (N, 2)
    v_conics: Any,  # (N, 3)
    v_depths: Any,  # (N,)
    v_opacities2d: Any,  # (N,)
    v_means: Any,  # out (N, 3)
    v_quats: Any,  # out (N, 4)
    v_scales: Any,  # out (N, 3)
    v_covariances: Any,  # out (N, 3, 3)
    v_opacities: Any,  # out (N,)
    v_viewmat: Any,  # out (chunks, 12): each chunk's share of the gradient of viewmat's upper three rows
) -> None:
    """The gradient of :func:`forward`. What was not seen gets zero."""
    s = scratch
    count = len(means)
    w00, w01, w02, w10, w11, w12 = camera[0], camera[1], camera[2], camera[4], camera[5], camera[6]
    w20, w21, w22 = camera[8], camera[9], camera[10]
    t0, t1, t2 = camera[3], camera[7], camera[11]
    fx, fy, cx, cy, width, height = camera[12], camera[13], camera[14], camera[15], camera[16], camera[17]
    eps2d, antialiased = camera[21], camera[22] > 0
    low_x, high_x = -cx / fx - f4(0.15) * width / fx, (width - cx) / fx + f4(0.15) * width / fx
    low_y, high_y = -cy / fy - f4(0.15) * height / fy, (height - cy) / fy + f4(0.15) * height / fy
    while True:
        chunk = fetch_add(claims, 0, 1)
        start = chunk * CHUNK
        if start >= count:
            break
        n = min(CHUNK, count - start)
        _load(s, start, n, means, quats, scales, covariances, opacities)
        for i in range(n):
            k = start + i
            s[SEEN + i] = f4(1.0) if extents[k, 0] >= f4(0.0) else f4(0.0)
            s[V_MX + i], s[V_MY + i] = v_means2d[k, 0], v_means2d[k, 1]
            s[V_A + i], s[V_B + i], s[V_C + i] = v_conics[k, 0], v_conics[k, 1], v_conics[k, 2]
            s[V_DEPTH + i], s[V_OPACITY2D + i] = v_depths[k], v_opacities2d[k]
        for i in range(n):
            seen = s[SEEN + i] > f4(0.0)
            x = w00 * s[X + i] + w01 * s[Y + i] + w02 * s[Z + i] + t0
            y = w10 * s[X + i] + w11 * s[Y + i] + w12 * s[Z + i] + t1
            z = w20 * s[X + i] + w21 * s[Y + i] + w22 * s[Z + i] + t2
            iz = f4(1.0) / (z if seen else f4(1.0))
            ux, uy = x * iz, y * iz
            lx, ly = ux, uy
            lx = low_x if lx < low_x else lx
            lx = high_x if lx > high_x else lx
            ly = low_y if ly < low_y else ly
            ly = high_y if ly > high_y else ly
            gx, gy = fx * iz, fy * iz
            d00, d01, d02 = w00 - lx * w20, w01 - lx * w21, w02 - lx * w22
            d10, d11, d12 = w10 - ly * w20, w11 - ly * w21, w12 - ly * w22
            m00, m01, m02, m10, m11, m12 = gx * d00, gx * d01, gx * d02, gy * d10, gy * d11, gy * d12
            xx, xy, xz, yy, yz, zz = s[XX + i], s[XY + i], s[XZ + i], s[YY + i], s[YZ + i], s[ZZ + i]
            p0, p1, p2 = m00 * xx + m01 * xy + m02 * xz, m00 * xy + m01 * yy + m02 * yz, m00 * xz + m01 * yz + m02 * zz
            q0, q1, q2 = m10 * xx + m11 * xy + m12 * xz, m10 * xy + m11 * yy + m12 * yz, m10 * xz + m11 * yz + m12 * zz
            a, b, c = p0 * m00 + p1 * m01 + p2 * m02, p0 * m10 + p1 * m11 + p2 * m12, q0 * m10 + q1 * m11 + q2 * m12
            before = a * c - b * b
            a0, c0 = a, c
            a, c = a + eps2d, c + eps2d
            det = a * c - b * b
            inverse = f4(1.0) / (det if seen else f4(1.0))
            # conic X = cov^-1: v_cov = -X V X, V symmetric with half of v_B off its diagonal
            A_, B_, C_ = c * inverse, -b * inverse, a * inverse
            vA, vB, vC = s[V_A + i], f4(0.5) * s[V_B + i], s[V_C + i]
            e00, e01, e10, e11 = A_ * vA + B_ * vB, A_ * vB + B_ * vC, B_ * vA + C_ * vB, B_ * vB + C_ * vC
            va = -(e00 * A_ + e01 * B_)
            vb = -(e00 * B_ + e01 * C_ + e10 * A_ + e11 * B_)
            vc = -(e10 * B_ + e11 * C_)
            # opacity' = opacity sqrt(before / det)
            share = before * inverse
            positive = antialiased & (share > f4(0.0))
            root = np.sqrt(share if positive else f4(1.0))
            v_o = s[V_OPACITY2D + i]
            v_share = f4(0.5) * v_o * s[OPACITY + i] / root if positive else f4(0.0)
            v_before, v_det = v_share * inverse, -v_share * share * inverse
            va += v_before * c0 + v_det * c
            vc += v_before * a0 + v_det * a
            vb -= f4(2.0) * b * (v_before + v_det)
            factor = root if positive else (f4(0.0) if antialiased else f4(1.0))
            s[V_OPACITY + i] = v_o * factor if seen else f4(0.0)
            va, vb, vc = va if seen else f4(0.0), vb if seen else f4(0.0), vc if seen else f4(0.0)
            # cov = M Sigma M^T
            s[V_XX + i] = va * m00 * m00 + vb * m00 * m10 + vc * m10 * m10
            s[V_YY + i] = va * m01 * m01 + vb * m01 * m11 + vc * m11 * m11
            s[V_ZZ + i] = va * m02 * m02 + vb * m02 * m12 + vc * m12 * m12
            half = f4(0.5) * vb
            s[V_XY + i] = va * m00 * m01 + half * (m00 * m11 + m10 * m01) + vc * m10 * m11
            s[V_XZ + i] = va * m00 * m02 + half * (m00 * m12 + m10 * m02) + vc * m10 * m12
            s[V_YZ + i] = va * m01 * m02 + half * (m01 * m12 + m11 * m02) + vc * m11 * m12
            v00, v01, v02 = f4(2) * va * p0 + vb * q0, f4(2) * va * p1 + vb * q1, f4(2) * va * p2 + vb * q2
            v10, v11, v12 = f4(2) * vc * q0 + vb * p0, f4(2) * vc * q1 + vb * p1, f4(2) * vc * q2 + vb * p2
            # M = diag(gx, gy) (W_xy - l W_z)
            v_lx = -gx * (v00 * w20 + v01 * w21 + v02 * w22)
            v_ly = -gy * (v10 * w20 + v11 * w21 + v12 * w22)
            v_iz = fx * (v00 * d00 + v01 * d01 + v02 * d02) + fy * (v10 * d10 + v11 * d11 + v12 * d12)
            v_ux = v_lx if (ux >= low_x) & (ux <= high_x) else f4(0.0)
            v_uy = v_ly if (uy >= low_y) & (uy <= high_y) else f4(0.0)
            vmx = s[V_MX + i] if seen else f4(0.0)
            vmy = s[V_MY + i] if seen else f4(0.0)
            v_ux += fx * vmx
            v_uy += fy * vmy
            v_iz += v_ux * x + v_uy * y
            px, py = v_ux * iz, v_uy * iz
            pz = (s[V_DEPTH + i] if seen else f4(0.0)) - iz * iz * v_iz
            # What was not seen may be anything, infinite too: zeros are chosen, not multiplied with.
            lx, ly = lx if seen else f4(0.0), ly if seen else f4(0.0)
            px, py, pz = px if seen else f4(0.0), py if seen else f4(0.0), pz if seen else f4(0.0)
            v00, v01, v02 = v00 if seen else f4(0.0), v01 if seen else f4(0.0), v02 if seen else f4(0.0)
            v10, v11, v12 = v10 if seen else f4(0.0), v11 if seen else f4(0.0), v12 if seen else f4(0.0)
            s[PX + i], s[PY + i], s[PZ + i] = px, py, pz
            s[N00 + i], s[N01 + i], s[N02 + i] = gx * v00, gx * v01, gx * v02
            s[N10 + i], s[N11 + i], s[N12 + i] = gy * v10, gy * v11, gy * v12
            # rows of W: what M takes of W_z, with the sign and the place
            s[A + i], s[B + i], s[C + i] = (
                -gx * lx * v00 - gy * ly * v10,
                -gx * lx * v01 - gy * ly * v11,
                -gx * lx * v02 - gy * ly * v12,
            )
            s[V_X + i] = w00 * px + w10 * py + w20 * pz
            s[V_Y + i] = w01 * px + w11 * py + w21 * pz
            s[V_Z + i] = w02 * px + w12 * py + w22 * pz
        g00 = g01 = g02 = g03 = g10 = g11 = g12 = g13 = g20 = g21 = g22 = g23 = f4(0.0)
        for i in range(n):
            x, y, z = s[X + i], s[Y + i], s[Z + i]
            px, py, pz = s[PX + i], s[PY + i], s[PZ + i]
            g00 += px * x + s[N00 + i]
            g01 += px * y + s[N01 + i]
            g02 += px * z + s[N02 + i]
            g03 += px
            g10 += py * x + s[N10 + i]
            g11 += py * y + s[N11 + i]
            g12 += py * z + s[N12 + i]
            g13 += py
            g20 += pz * x + s[A + i]
            g21 += pz * y + s[B + i]
            g22 += pz * z + s[C + i]
            g23 += pz
        v = v_viewmat[chunk]
        v[0], v[1], v[2], v[3] = g00, g01, g02, g03
        v[4], v[5], v[6], v[7] = g10, g11, g12, g13
        v[8], v[9], v[10], v[11] = g20, g21, g22, g23
        if len(covariances):
            for i in range(n):
                k = start + i
                v_covariances[k, 0, 0], v_covariances[k, 1, 1], v_covariances[k, 2, 2] = s[V_XX + i], s[V_YY + i], s[V_ZZ + i]
                v_covariances[k, 0, 1] = v_covariances[k, 1, 0] = s[V_XY + i]
                v_covariances[k, 0, 2] = v_covariances[k, 2, 0] = s[V_XZ + i]
                v_covariances[k, 1, 2] = v_covariances[k, 2, 1] = s[V_YZ + i]
        else:
            _covariances_of_chunk_backward(s, n)
            for i in range(n):
                k = start + i
                v_quats[k, 0], v_quats[k, 1], v_quats[k, 2], v_quats[k, 3] = s[V_QW + i], s[V_QX + i], s[V_QY + i], s[V_QZ + i]
                v_scales[k, 0], v_scales[k, 1], v_scales[k, 2] = s[V_SX + i], s[V_SY + i], s[V_SZ + i]
        for i in range(n):
            k = start + i
            v_means[k, 0], v_means[k, 1], v_means[k, 2] = s[V_X + i], s[V_Y + i], s[V_Z + i]
            v_opacities[k] = s[V_OPACITY + i]
        fetch_add(claims, 8, 1)
