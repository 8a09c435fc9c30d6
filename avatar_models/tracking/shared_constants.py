"""Least squares over frames whose rows have a constant each that all frames share: a point's albedo, a landmark's habit.

    r_nk(x_n, s) = f_nk(x_n, s) - own_nk c_k

The constants are eliminated (variable projection, Golub and Pereyra 1973): with P = 1 - own own^T / (own^T own + precision)
over the frames, the normal equations are J^T P J and J^T P r. They couple all frames, so they are solved by conjugate
gradients; the arrow matrix that is left when frames are uncoupled is the preconditioner.

N frames with F unknowns each, S shared ones, K rows in each frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Array32 = NDArray[np.float32]
MAX_ROUNDS = 40
CLOSE = 2e-2  # of the first residual's length, at which the solution is good enough for a Gauss-Newton step


@dataclass(frozen=True)
class Rows:
    """Weighted rows of one kind of measurement."""

    frames: Array32  # (N, K, F)
    shared: Array32  # (N, K, S)
    residual: Array32  # (N, K)
    own: Array32  # (N, K) derivative by the row's constant, negated
    precision: float  # of the constants, drawn to zero

    def without_constants(self, y: Array32) -> Array32:
        """P y for y (N, K)."""
        total = (self.own**2).sum(0) + np.float32(self.precision + 1e-12)
        return y - self.own * ((self.own * y).sum(0) / total)

    def shared_without_constants(self) -> Array32:
        """P applied to the shared columns, (N, K, S)."""
        total = (self.own**2).sum(0) + np.float32(self.precision + 1e-12)
        means = np.matmul(self.own.T[:, None], self.shared.transpose(1, 0, 2))[:, 0] / total[:, None]  # (K, S)
        return self.shared - self.own[..., None] * means


def solve(
    rows: Sequence[Rows], prior: tuple[Array, Array], shared_prior: tuple[Array, Array], damping: float
) -> tuple[Array, Array]:
    """The damped Gauss-Newton step: frames (N, F) and shared (S,). Priors are (value, precision) of what is drawn to zero."""
    (value, precision), (shared_value, shared_precision) = prior, shared_prior
    N, F = value.shape
    S = len(shared_value)
    A, B = np.zeros((N, F, F)), np.zeros((N, F, S))
    C, a, c = np.zeros((S, S)), precision * value, shared_precision * shared_value
    for part in rows:
        projected, r = part.shared_without_constants(), part.without_constants(part.residual)
        transposed = part.frames.transpose(0, 2, 1)
        A += transposed @ part.frames
        B += transposed @ projected
        C += part.shared.reshape(-1, S).T @ projected.reshape(-1, S)
        a += (transposed @ r[..., None])[..., 0]
        c += r.ravel() @ part.shared.reshape(-1, S)
    extra, shared_extra = precision + damping * np.einsum("nff->nf", A), shared_precision + damping * np.diag(C)
    A[:, np.arange(F), np.arange(F)] += extra
    C[np.diag_indices(S)] += shared_extra
    inverse = np.linalg.inv(A)
    carried = inverse @ B
    schur = np.linalg.inv(C - np.tensordot(B, carried, ((0, 1), (0, 1))))

    def preconditioned(x: Array, s: Array) -> tuple[Array, Array]:
        shared_part = schur @ (s - np.tensordot(carried, x, ((0, 1), (0, 1))))
        return (inverse @ x[..., None])[..., 0] - carried @ shared_part, shared_part

    def times_matrix(x: Array, s: Array) -> tuple[Array, Array]:
        to_frames, to_shared = extra * x, shared_extra * s
        x32, s32 = x.astype(np.float32), s.astype(np.float32)
        for part in rows:
            of_shared = (part.shared.reshape(-1, S) @ s32).reshape(part.residual.shape)
            y = part.without_constants((part.frames @ x32[..., None])[..., 0] + of_shared)
            to_frames = to_frames + (y[:, None] @ part.frames)[:, 0]
            to_shared = to_shared + y.ravel() @ part.shared.reshape(-1, S)
        return to_frames, to_shared

    return _conjugate_gradients(times_matrix, preconditioned, -a, -c)


def _conjugate_gradients(times_matrix, preconditioned, r: Array, q: Array) -> tuple[Array, Array]:  # type: ignore[no-untyped-def]
    x, s = np.zeros_like(r), np.zeros_like(q)
    z, w = preconditioned(r, q)
    p, v = z, w
    energy = float((r * z).sum() + (q * w).sum())
    first = energy
    for _ in range(MAX_ROUNDS):
        if not energy > CLOSE**2 * first:
            break
        along, along_shared = times_matrix(p, v)
        length = energy / float((p * along).sum() + (v * along_shared).sum())
        x, s = x + length * p, s + length * v
        r, q = r - length * along, q - length * along_shared
        z, w = preconditioned(r, q)
        energy, before = float((r * z).sum() + (q * w).sum()), energy
        p, v = z + energy / before * p, w + energy / before * v
    return x, s
