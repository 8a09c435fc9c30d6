"""Rotations against scipy, and at the places where formulas break: no turn and half a turn."""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from avatar_models.rotations import (
    axis_angle_to_matrix,
    matrix_to_axis_angle,
    matrix_to_quaternion,
    multiply_quaternions,
    quaternion_to_matrix,
)


def some_turns() -> np.ndarray:
    axes = np.random.default_rng(0).normal(size=(60, 3))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    angles = np.concatenate([[0.0, 1e-9, 1e-4, 1e-3, np.pi - 1e-6], np.linspace(0.01, np.pi - 0.01, 55)])
    return axes * angles[:, None]


def test_matrices_and_quaternions_are_scipys() -> None:
    turns = some_turns()
    expected = Rotation.from_rotvec(turns)
    matrices = axis_angle_to_matrix(torch.from_numpy(turns))
    np.testing.assert_allclose(matrices, expected.as_matrix(), atol=1e-12)
    quaternions = matrix_to_quaternion(matrices).numpy()
    theirs = expected.as_quat(canonical=True, scalar_first=True)
    np.testing.assert_allclose(np.abs((quaternions * theirs).sum(1)), 1.0, atol=1e-12)
    np.testing.assert_allclose(quaternion_to_matrix(3.0 * torch.from_numpy(theirs)), expected.as_matrix(), atol=1e-12)


def test_there_and_back() -> None:
    turns = some_turns()
    back = matrix_to_axis_angle(axis_angle_to_matrix(torch.from_numpy(turns)))
    np.testing.assert_allclose(back, turns, atol=1e-7)


def test_gradient_is_right_at_rest_and_beyond() -> None:
    for angle in (0.0, 1e-4, 0.9e-3, 1.1e-3, 1.0):
        turn = torch.tensor([[0.6, -0.64, 0.48]], dtype=torch.float64) * angle
        assert torch.autograd.gradcheck(axis_angle_to_matrix, (turn.requires_grad_(),), atol=1e-6)


def test_a_product_of_quaternions_is_that_of_their_rotations() -> None:
    q, p = (torch.nn.functional.normalize(torch.randn(5, 4, dtype=torch.float64), dim=1) for _ in range(2))
    torch.testing.assert_close(
        quaternion_to_matrix(multiply_quaternions(q, p)), quaternion_to_matrix(q) @ quaternion_to_matrix(p)
    )
