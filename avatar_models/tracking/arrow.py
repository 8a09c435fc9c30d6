"""Solving a head fit's normal equations, whose matrix has an arrow's shape.

    [ A   B ] [ frames ]     [ a ]
    [ B^T C ] [ shared ] = - [ c ]

A holds a block (F, F) for each frame, C what all frames share. Smoothness over time couples a frame with the two before
and after it, unknown by unknown, so A is then a band of width 2 F.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solveh_banded

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Normal:
    """N frames with F unknowns each, S shared ones (0 where they are held)."""

    A: Array  # (N, F, F)
    B: Array  # (N, F, S)
    C: Array  # (S, S)
    a: Array  # (N, F) half the gradient by the frames' unknowns
    c: Array  # (S,) and by the shared ones
    coupling: Array | None = None  # (N - 2, F) precision of x_{n-1} - 2 x_n + x_{n+1}; None where frames are free of each other
    second: Array | None = None  # (N - 2, F) what those differences are now
    held_by: Array | float = 0.0  # (N, F) precision of priors of the frames' unknowns, on top of A's diagonal


def step(normal: Normal, damping: float) -> tuple[Array, Array]:
    """The damped Gauss-Newton step: frames (N, F) and shared (S,).

    The shared step takes the frames as if each held its neighbours still; the frames' step is exact for that shared one.
    """
    A, a = normal.A.copy(), normal.a.copy()
    if normal.coupling is not None and normal.second is not None:
        pulled = normal.coupling * normal.second
        a[:-2] += pulled
        a[1:-1] -= 2 * pulled
        a[2:] += pulled
    diagonal = np.arange(A.shape[1])
    A[:, diagonal, diagonal] += normal.held_by
    A[:, diagonal, diagonal] += damping * A[:, diagonal, diagonal]
    held = _held(normal, A)
    shared = np.zeros(len(normal.c))
    if len(normal.c):
        solved = np.linalg.solve(held, np.concatenate([normal.B, a[..., None]], 2))
        C = normal.C + damping * np.diag(np.diag(normal.C))
        schur = C - np.tensordot(normal.B, solved[..., :-1], ((0, 1), (0, 1)))
        shared = np.linalg.solve(schur, -(normal.c - np.tensordot(normal.B, solved[..., -1], ((0, 1), (0, 1)))))
        a = a + normal.B @ shared
    if normal.coupling is None:
        return -np.linalg.solve(A, a[..., None])[..., 0], shared
    return -_solve_coupled(A, normal.coupling, a), shared


def _held(normal: Normal, A: Array) -> Array:
    """A with what smoothness adds to each frame's own unknowns."""
    if normal.coupling is None:
        return A
    held, diagonal = A.copy(), np.arange(A.shape[1])
    for first, weight in ((0, 1.0), (1, 4.0), (2, 1.0)):
        held[first : len(A) - 2 + first, diagonal, diagonal] += weight * normal.coupling
    return held


def _solve_coupled(A: Array, coupling: Array, a: Array) -> Array:
    """x (N, F) of (A + D^T diag(coupling) D) x = a, with D the second differences: one banded Cholesky factorisation."""
    N, F = a.shape
    band = np.zeros((N, F, 2 * F + 1))  # band[n, i, d] = matrix[(n, i) + d, (n, i)]
    for i in range(F):
        band[:, i, : F - i] = A[:, i, i:]
    for first, weight in ((0, 1.0), (1, 4.0), (2, 1.0)):
        band[first : N - 2 + first, :, 0] += weight * coupling
    band[: N - 2, :, F] -= 2 * coupling
    band[1 : N - 1, :, F] -= 2 * coupling
    band[: N - 2, :, 2 * F] += coupling
    # LAPACK's own order of numbers: no copy
    lower = band.reshape(N * F, 2 * F + 1).T
    return np.asarray(solveh_banded(lower, a.ravel(), overwrite_ab=True, lower=True, check_finite=False)).reshape(N, F)
