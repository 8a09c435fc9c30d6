"""Turning Gaussians over."""

from __future__ import annotations

import pytest
import torch

from avatar_models.cameras import Camera
from avatar_models.gaussians import Gaussians, half_turn_about_x
from avatar_models.splatting import splat


@pytest.mark.parametrize("coefficients", [1, 4, 9, 16])
def test_a_camera_that_turns_with_them_sees_the_same(coefficients: int) -> None:
    g = torch.Generator().manual_seed(0)
    count = 60
    gaussians = Gaussians(
        torch.randn(count, 3, generator=g) * 0.3,
        torch.randn(count, 4, generator=g),
        torch.rand(count, 3, generator=g) * 0.2 + 0.02,
        torch.rand(count, generator=g),
        torch.randn(count, coefficients, 3, generator=g) * 0.3,
    )
    K = torch.tensor([[[60.0, 0, 24], [0, 60, 24], [0, 0, 1]]])
    viewmat = torch.eye(4)[None].clone()
    viewmat[0, :3, 3] = torch.tensor([0.1, -0.2, 2.0])
    turn = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))
    before = splat(gaussians, Camera(K, viewmat, 48, 48)).image
    after = splat(half_turn_about_x(gaussians), Camera(K, viewmat @ turn, 48, 48)).image
    assert before.std() > 0.1
    assert torch.allclose(before, after, atol=2e-5)
