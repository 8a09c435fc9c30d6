"""L1 and SSIM of two images and the gradient to the first, in two passes over bands of rows.

SSIM (Wang et al. 2004, equation 13) of pixel p is a function of five blurred pictures: x, y, x^2, y^2, xy. The first pass
finds it and its derivatives by the three that hold x. The blur is symmetric with zeros beyond the border, so it is its own
adjoint: the second pass blurs the derivatives, and v_x = B(d mu) + 2 x B(d xx) + y B(d xy).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from avatar_models.kernels.lanes import fetch_add, jit
from avatar_models.kernels.maths import f4

WINDOW, HALF, SIGMA = 11, 5, 1.5
C1, C2 = f4(0.01**2), f4(0.03**2)
BAND = 8  # rows
_weights = np.exp(-0.5 * ((np.arange(WINDOW) - HALF) / SIGMA) ** 2)
_weights = (_weights / _weights.sum()).astype(np.float32)
W0, W1, W2, W3, W4, W5 = (f4(w) for w in _weights[:6])


def scratch_floats(width: int) -> int:
    """Length of a thread's scratch: five rows with HALF zeros on both sides."""
    return 5 * (width + 2 * HALF)


@jit
def _blurred(s: Any, at: Any) -> Any:
    """The window over s[at : at + 11]."""
    u = np.uint64
    total = W5 * s[at + u(5)]
    total += W4 * (s[at + u(4)] + s[at + u(6)]) + W3 * (s[at + u(3)] + s[at + u(7)])
    total += W2 * (s[at + u(2)] + s[at + u(8)]) + W1 * (s[at + u(1)] + s[at + u(9)])
    return total + W0 * (s[at] + s[at + u(10)])


@jit
def _weight(k: int) -> Any:
    k = k if k <= HALF else WINDOW - 1 - k
    return W0 if k == 0 else W1 if k == 1 else W2 if k == 2 else W3 if k == 3 else W4 if k == 4 else W5


@jit
def compare(
    claims: Any,
    scratch: Any,
    x: Any,  # (P, H, W): P pictures, a channel each
    y: Any,  # (P, H, W)
    d_mu: Any,  # out (P, H, W) derivatives of SSIM by the blurred x, x^2, xy
    d_xx: Any,
    d_xy: Any,
    sums: Any,  # out (P * bands, 2): sums of |x - y| and of SSIM
) -> None:
    """First pass. A piece is a band of rows of one picture."""
    s = scratch
    pictures, height, width = x.shape
    bands = (height + BAND - 1) // BAND
    u = np.uint64
    stride = u(width + 2 * HALF)
    n = u(width)
    MX, MY, XX, YY, XY = u(0), stride, u(2) * stride, u(3) * stride, u(4) * stride
    while True:
        piece = fetch_add(claims, 0, 1)
        if piece >= pictures * bands:
            break
        c, band = piece // bands, piece % bands
        s[: u(5) * stride] = f4(0.0)
        l1 = total = f4(0.0)
        for row in range(band * BAND, min((band + 1) * BAND, height)):
            for i in range(n):
                at = i + u(HALF)
                s[MX + at] = s[MY + at] = s[XX + at] = s[YY + at] = s[XY + at] = f4(0.0)
            for k in range(max(0, row - HALF), min(height, row + HALF + 1)):
                w = _weight(k - row + HALF)
                xs, ys = x[c, k], y[c, k]
                for i in range(n):
                    at = i + u(HALF)
                    a, b = xs[i], ys[i]
                    wa, wb = w * a, w * b
                    s[MX + at] += wa
                    s[MY + at] += wb
                    s[XX + at] += wa * a
                    s[YY + at] += wb * b
                    s[XY + at] += wa * b
            xs, ys = x[c, row], y[c, row]
            g_mu, g_xx, g_xy = d_mu[c, row], d_xx[c, row], d_xy[c, row]
            for i in range(n):
                mx, my = _blurred(s, MX + i), _blurred(s, MY + i)
                var_x, var_y = _blurred(s, XX + i) - mx * mx, _blurred(s, YY + i) - my * my
                cov = _blurred(s, XY + i) - mx * my
                A1, A2 = f4(2) * mx * my + C1, f4(2) * cov + C2
                i1, i2 = f4(1) / (mx * mx + my * my + C1), f4(1) / (var_x + var_y + C2)
                ssim = A1 * A2 * i1 * i2
                by_cov = f4(2) * A1 * i1 * i2
                by_var = -ssim * i2
                g_mu[i] = f4(2) * my * A2 * i1 * i2 - f4(2) * mx * (ssim * i1 + by_var) - my * by_cov
                g_xx[i] = by_var
                g_xy[i] = by_cov
                total += ssim
                l1 += abs(xs[i] - ys[i])
        sums[piece, 0], sums[piece, 1] = l1, total
        fetch_add(claims, 8, 1)


@jit
def gradient(
    claims: Any,
    scratch: Any,
    x: Any,
    y: Any,
    d_mu: Any,
    d_xx: Any,
    d_xy: Any,
    by_l1: float,  # derivatives of the loss by one pixel's |x - y| and SSIM
    by_ssim: float,
    v_x: Any,  # out (P, H, W)
) -> None:
    """Second pass."""
    s = scratch
    pictures, height, width = x.shape
    bands = (height + BAND - 1) // BAND
    u = np.uint64
    stride = u(width + 2 * HALF)
    n = u(width)
    MU, XX, XY = u(0), stride, u(2) * stride
    g_l1, g_ssim = f4(by_l1), f4(by_ssim)
    while True:
        piece = fetch_add(claims, 0, 1)
        if piece >= pictures * bands:
            break
        c, band = piece // bands, piece % bands
        s[: u(3) * stride] = f4(0.0)
        for row in range(band * BAND, min((band + 1) * BAND, height)):
            for i in range(n):
                at = i + u(HALF)
                s[MU + at] = s[XX + at] = s[XY + at] = f4(0.0)
            for k in range(max(0, row - HALF), min(height, row + HALF + 1)):
                w = _weight(k - row + HALF)
                g_mu, g_xx, g_xy = d_mu[c, k], d_xx[c, k], d_xy[c, k]
                for i in range(n):
                    at = i + u(HALF)
                    s[MU + at] += w * g_mu[i]
                    s[XX + at] += w * g_xx[i]
                    s[XY + at] += w * g_xy[i]
            xs, ys, out = x[c, row], y[c, row], v_x[c, row]
            for i in range(n):
                a, b = xs[i], ys[i]
                v = _blurred(s, MU + i) + f4(2) * a * _blurred(s, XX + i) + b * _blurred(s, XY + i)
                sign = f4(1.0) if a > b else (f4(-1.0) if a < b else f4(0.0))
                out[i] = g_ssim * v + g_l1 * sign
        fetch_add(claims, 8, 1)
