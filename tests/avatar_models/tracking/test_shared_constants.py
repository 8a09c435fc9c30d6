"""Eliminated constants against the whole system with the constants written down as unknowns."""

from __future__ import annotations

import numpy as np
import pytest

from avatar_models.tracking import shared_constants
from avatar_models.tracking.shared_constants import Rows, solve

N, K, F, S = 6, 9, 4, 3


@pytest.fixture(autouse=True)
def solved_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_constants, "CLOSE", 1e-6)


def rows(seed: int, precision: float) -> Rows:
    rng = np.random.default_rng(seed)
    frames, shared = rng.normal(size=(N, K, F)), rng.normal(size=(N, K, S))
    residual, own = rng.normal(size=(N, K)), rng.random((N, K)) + 0.5
    return Rows(*(array.astype(np.float32) for array in (frames, shared, residual, own)), precision)


def whole_solution(parts: list[Rows], prior: np.ndarray, shared_prior: np.ndarray) -> np.ndarray:
    """Least squares with every unknown in sight: frames, shared, and a constant for each row of each kind."""
    unknowns = N * F + S + K * len(parts)
    J, r, first = [], [], N * F + S
    for number, part in enumerate(parts):
        for n in range(N):
            block = np.zeros((K, unknowns))
            block[:, n * F : (n + 1) * F], block[:, N * F : first] = part.frames[n], part.shared[n]
            block[np.arange(K), first + number * K + np.arange(K)] = -part.own[n]
            J.append(block)
            r.append(part.residual[n])
    J_all, r_all = np.concatenate(J), np.concatenate(r)
    drawn = np.concatenate([np.ones(N * F), np.ones(S), *(np.full(K, part.precision) for part in parts)])
    drawn_to = np.concatenate([prior.ravel(), shared_prior, np.zeros(K * len(parts))])
    return np.linalg.solve(J_all.T @ J_all + np.diag(drawn), -(J_all.T @ r_all + drawn * drawn_to))


def test_constants_that_are_eliminated_change_no_solution() -> None:
    parts = [rows(0, 0.0), rows(1, 2.5)]
    rng = np.random.default_rng(2)
    value, shared_value = rng.normal(size=(N, F)), rng.normal(size=S)
    x, s = solve(parts, (value, np.ones((N, F))), (shared_value, np.ones(S)), damping=0.0)
    wanted = whole_solution(parts, value, shared_value)
    np.testing.assert_allclose(np.concatenate([x.ravel(), s]), wanted[: N * F + S], atol=2e-5)


def test_what_all_frames_do_alike_is_not_seen_where_constants_take_it_up() -> None:
    """A shared unknown whose columns are the constants' own: nothing but its prior holds it."""
    part = rows(3, 0.0)
    shared = np.concatenate([part.shared, part.own[..., None]], -1)
    blind = Rows(part.frames, shared, part.residual, part.own, 0.0)
    _, s = solve([blind], (np.zeros((N, F)), np.ones((N, F))), (np.array([0.0, 0, 0, 0.7]), np.ones(S + 1)), damping=0.0)
    assert abs(s[-1] + 0.7) < 1e-4
