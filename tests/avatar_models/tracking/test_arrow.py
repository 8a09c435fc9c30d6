"""The solver's steps against the whole matrix written down and solved by numpy."""

from __future__ import annotations

import numpy as np
import pytest

from avatar_models.tracking.arrow import Normal, step

N, F, S = 7, 4, 3


def normal(coupled: bool, shared: int = S) -> Normal:
    rng = np.random.default_rng(0)
    J = rng.normal(size=(N, 12, F + shared))
    H, g = J.transpose(0, 2, 1) @ J, (J.transpose(0, 2, 1) @ rng.normal(size=(N, 12, 1)))[..., 0]
    C, c = H[:, F:, F:].sum(0) + np.eye(shared), g[:, F:].sum(0)
    smooth = (rng.random((N - 2, F)), rng.normal(size=(N - 2, F))) if coupled else (None, None)
    return Normal(H[:, :F, :F] + np.eye(F), H[:, :F, F:], C, g[:, :F], c, *smooth)


def whole(parts: Normal, damping: float) -> tuple[np.ndarray, np.ndarray]:
    """The arrow matrix and its right side; damping on the diagonal of A and C."""
    shared = len(parts.c)
    M, g = np.zeros((N * F + shared, N * F + shared)), np.concatenate([parts.a.ravel(), parts.c])
    for n in range(N):
        at = slice(n * F, (n + 1) * F)
        M[at, at] = parts.A[n] + damping * np.diag(np.diag(parts.A[n]))
        M[at, N * F :], M[N * F :, at] = parts.B[n], parts.B[n].T
    M[N * F :, N * F :] = parts.C + damping * np.diag(np.diag(parts.C))
    if parts.coupling is not None and parts.second is not None:
        for n in range(N - 2):
            for i in range(F):
                d = np.zeros(len(M))
                d[[n * F + i, (n + 1) * F + i, (n + 2) * F + i]] = 1, -2, 1
                M += parts.coupling[n, i] * np.outer(d, d)
                g += parts.coupling[n, i] * parts.second[n, i] * d
    return M, g


@pytest.mark.parametrize("damping", [0.0, 0.3])
def test_without_coupling_the_step_is_the_whole_matrixs(damping: float) -> None:
    parts = normal(coupled=False)
    M, g = whole(parts, damping)
    frames, shared = step(parts, damping)
    np.testing.assert_allclose(np.concatenate([frames.ravel(), shared]), -np.linalg.solve(M, g), atol=1e-10)


def test_with_coupling_the_frames_step_is_exact_for_its_shared_one() -> None:
    parts = normal(coupled=True)
    M, g = whole(parts, 0.1)
    frames, shared = step(parts, 0.1)
    A, B = M[: N * F, : N * F], M[: N * F, N * F :]
    np.testing.assert_allclose(frames.ravel(), -np.linalg.solve(A, g[: N * F] + B @ shared), atol=1e-10)


def test_with_nothing_shared_the_coupled_step_is_the_whole_matrixs() -> None:
    parts = normal(coupled=True, shared=0)
    M, g = whole(parts, 0.0)
    frames, shared = step(parts, 0.0)
    assert shared.shape == (0,)
    np.testing.assert_allclose(frames.ravel(), -np.linalg.solve(M, g), atol=1e-10)
