"""Rotations: axis-angle (radians), matrices and wxyz quaternions, in torch. B is any batch shape."""

from __future__ import annotations

import torch
from torch import Tensor


def skew(vector: Tensor) -> Tensor:
    """Cross-product matrices: (B, 3) -> (B, 3, 3) with skew(a) @ b = a x b."""
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(*vector.shape, 3)


def axis_angle_to_matrix(axis_angle: Tensor) -> Tensor:
    """Rodrigues' formula: (B, 3) radians -> (B, 3, 3).

    Written with sin(t)/t and (1 - cos t)/t^2 as series near zero, so that value and gradient are right at rest.
    """
    squared = (axis_angle * axis_angle).sum(-1)[..., None, None]
    small = squared < 1e-6
    safe = torch.where(small, torch.ones_like(squared), squared)
    angle = safe.sqrt()
    first = torch.where(small, 1.0 - squared / 6.0, torch.sin(angle) / angle)
    second = torch.where(small, 0.5 - squared / 24.0, (1.0 - torch.cos(angle)) / safe)
    K = skew(axis_angle)
    eye = torch.eye(3, dtype=axis_angle.dtype, device=axis_angle.device)
    return eye + first * K + second * (K @ K)


def matrix_to_quaternion(matrix: Tensor) -> Tensor:
    """Rotation matrices (B, 3, 3) to unit quaternions (B, 4) wxyz with w >= 0.

    Of the four equivalent formulas the one with the largest divisor is taken, so that no angle loses precision.
    """
    m = matrix
    m00, m11, m22 = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    four = torch.stack(
        [
            torch.stack(
                [
                    1 + m00 + m11 + m22,
                    m[..., 2, 1] - m[..., 1, 2],
                    m[..., 0, 2] - m[..., 2, 0],
                    m[..., 1, 0] - m[..., 0, 1],
                ],
                -1,
            ),
            torch.stack(
                [
                    m[..., 2, 1] - m[..., 1, 2],
                    1 + m00 - m11 - m22,
                    m[..., 1, 0] + m[..., 0, 1],
                    m[..., 0, 2] + m[..., 2, 0],
                ],
                -1,
            ),
            torch.stack(
                [
                    m[..., 0, 2] - m[..., 2, 0],
                    m[..., 1, 0] + m[..., 0, 1],
                    1 - m00 + m11 - m22,
                    m[..., 2, 1] + m[..., 1, 2],
                ],
                -1,
            ),
            torch.stack(
                [
                    m[..., 1, 0] - m[..., 0, 1],
                    m[..., 0, 2] + m[..., 2, 0],
                    m[..., 2, 1] + m[..., 1, 2],
                    1 - m00 - m11 + m22,
                ],
                -1,
            ),
        ],
        -2,
    )
    best = torch.diagonal(four, dim1=-2, dim2=-1).argmax(-1)
    q = torch.gather(four, -2, best[..., None, None].expand(*best.shape, 1, 4)).squeeze(-2)
    q = q / q.norm(dim=-1, keepdim=True)
    return torch.where(q[..., :1] < 0, -q, q)


def quaternion_to_matrix(quaternion: Tensor) -> Tensor:
    """Quaternions (B, 4) wxyz of any norm but zero to rotation matrices (B, 3, 3)."""
    return unit_quaternion_to_matrix(quaternion / quaternion.norm(dim=-1, keepdim=True))


def unit_quaternion_to_matrix(quaternion: Tensor) -> Tensor:
    """Unit quaternions (B, 4) wxyz to rotation matrices (B, 3, 3); others to what the formula makes of them."""
    w, x, y, z = quaternion.unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, -1).reshape(*quaternion.shape[:-1], 3, 3)


def matrix_to_axis_angle(matrix: Tensor) -> Tensor:
    """Rotation matrices (B, 3, 3) to axis-angle (B, 3), angle in [0, pi]."""
    q = matrix_to_quaternion(matrix)
    sine = q[..., 1:].norm(dim=-1, keepdim=True)
    angle = 2.0 * torch.atan2(sine, q[..., :1])
    scale = torch.where(sine < 1e-8, torch.full_like(sine, 2.0), angle / sine.clamp_min(1e-30))
    return q[..., 1:] * scale


def multiply_quaternions(first: Tensor, second: Tensor) -> Tensor:
    """Hamilton's product (..., 4) of wxyz quaternions: the rotation of `second`, then that of `first`."""
    w, x, y, z = first.unbind(-1)
    W, X, Y, Z = second.unbind(-1)
    return torch.stack(
        [
            w * W - x * X - y * Y - z * Z,
            w * X + x * W + y * Z - z * Y,
            w * Y - x * Z + y * W + z * X,
            w * Z + x * Y - y * X + z * W,
        ],
        -1,
    )
