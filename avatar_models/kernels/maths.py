"""exp and log as straight lines of float32 arithmetic, which LLVM turns into vectors; libm's would stop it."""

from __future__ import annotations

from typing import Any

import numpy as np

from avatar_models.kernels.lanes import bits_of, float_of, jit

f4 = np.float32


@jit
def exp_of_eighths(u: Any) -> Any:
    """exp(-8 u) for u in [0, 0.6935], within 8e-7 of it: a polynomial for exp(-u), squared three times.

    Alpha is at least 1/255 where it is used, so that range is all there is. Outside it the value means nothing.
    """
    e = f4(0.03980424255132675) - f4(0.005866267718374729) * u
    e = f4(-0.1659919172525406) + e * u
    e = f4(0.49988672137260437) + e * u
    e = f4(-0.999992847442627) + e * u
    e = f4(0.9999999403953552) + e * u
    e = e * e
    e = e * e
    return e * e


@jit
def log(x: Any) -> Any:
    """log(x) of a normal positive x, within 2e-7 relative to the larger of |log x| and 1.

    x = 2^n m with m in [sqrt(1/2), sqrt(2)), and log m = 2 artanh t = t p(t^2) with t = (m - 1) / (m + 1).
    """
    bits = bits_of(x)
    n = (bits - np.int32(0x3F3504F3)) >> np.int32(23)
    m = float_of(bits - (n << np.int32(23)))
    t = (m - f4(1.0)) / (m + f4(1.0))
    s = t * t
    p = f4(0.3997477307562647) + f4(0.2992624845008201) * s
    p = f4(0.6666681614070472) + p * s
    p = f4(1.9999999986191945) + p * s
    return f4(n) * f4(0.6931471805599453) + t * p
