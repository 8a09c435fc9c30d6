"""Blending a basis of features by one condition, and Adam on the gradient that it gets.

f = e^T F with e (E,) and F (E, M). The gradient of F is the outer product of e and v_f: as large as F, and never written
down. What remains is the memory that Adam itself has to move: F and its two moments, read and written once.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from avatar_models.kernels.lanes import fetch_add, jit
from avatar_models.kernels.maths import f4

BLOCK = 16384
"""Columns of F done at a time: long runs of memory, while their v_f and f stay in the second cache."""


@jit
def blend(claims: Any, e: Any, F: Any, f: Any) -> None:
    """f (M,) = e (E,) F (E, M)."""
    rows, columns = F.shape
    while True:
        start = fetch_add(claims, 0, 1) * BLOCK
        if start >= columns:
            break
        n = np.uint64(min(BLOCK, columns - start))
        out = f[start : start + BLOCK]
        for i in range(n):
            out[i] = f4(0.0)
        for row in range(rows):
            weight, source = e[row], F[row, start : start + BLOCK]
            for i in range(n):
                out[i] += weight * source[i]
        fetch_add(claims, 8, 1)


@jit
def adam(
    claims: Any,
    scratch: Any,  # (BLOCK,)
    F: Any,  # (E, M), changed
    m: Any,  # (E, M) first moment, changed
    v: Any,  # (E, M) second moment, changed
    e: Any,  # (R, E)
    v_f: Any,  # (R, M): the gradient of F is e^T v_f
    ahead: Any,  # (E,), or nothing (0,)
    f: Any,  # out (M,) ahead F with the new F, in the order of `blend`: to the same bit
    rate: float,
    beta1: float,
    beta2: float,
    eps: float,
    correction1: float,  # 1 - beta1^t
    correction2: float,  # 1 - beta2^t
    keep: float,  # factor of F before the update: 1 - rate x weight decay
) -> None:
    """One step of Adam (Kingma and Ba 2015, algorithm 1) with the weight decay of AdamW (Loshchilov and Hutter 2019,
    algorithm 2), and the next blend while F is at hand."""
    rows, columns = F.shape
    g = scratch
    b1, b2, c1, c2 = f4(beta1), f4(beta2), f4(1.0 - beta1), f4(1.0 - beta2)
    step, root, epsilon, kept = f4(rate / correction1), f4(1.0 / np.sqrt(correction2)), f4(eps), f4(keep)
    while True:
        start = fetch_add(claims, 0, 1) * BLOCK
        if start >= columns:
            break
        n = np.uint64(min(BLOCK, columns - start))
        out = f[start : start + BLOCK]
        for i in range(np.uint64(len(out))):
            out[i] = f4(0.0)
        for row in range(rows):
            weight, source = e[0, row], v_f[0, start : start + BLOCK]
            for i in range(n):
                g[i] = weight * source[i]
            for rank in range(1, len(e)):
                weight, source = e[rank, row], v_f[rank, start : start + BLOCK]
                for i in range(n):
                    g[i] += weight * source[i]
            p, first, second = F[row, start : start + BLOCK], m[row, start : start + BLOCK], v[row, start : start + BLOCK]
            for i in range(n):
                mean = b1 * first[i] + c1 * g[i]
                square = b2 * second[i] + c2 * g[i] * g[i]
                first[i], second[i] = mean, square
                p[i] = kept * p[i] - step * mean / (np.sqrt(square) * root + epsilon)
            if len(ahead) > 0:
                weight = ahead[row]
                for i in range(n):
                    out[i] += weight * p[i]
        fetch_add(claims, 8, 1)
