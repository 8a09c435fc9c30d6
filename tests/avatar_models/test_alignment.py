"""Poses found by what an avatar looks like, against poses that are known."""

from __future__ import annotations

import pytest
import torch

from avatar_models.alignment import BETAS, EPS, PoseCorrections, adam, align, twisted
from avatar_models.cameras import Camera
from avatar_models.gaussians import Gaussians
from avatar_models.rotations import axis_angle_to_matrix
from avatar_models.splatting import splat

SIZE = 64
CENTRE = torch.tensor([0.0, 0.01, 0.02])


def camera() -> Camera:
    K = torch.tensor([[120.0, 0.0, 32.0], [0.0, 120.0, 32.0], [0.0, 0.0, 1.0]])
    viewmat = torch.eye(4)
    viewmat[:3, :3] = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    viewmat[2, 3] = 0.6
    return Camera(K[None], viewmat[None], SIZE, SIZE)


def ball() -> Gaussians:
    g = torch.Generator().manual_seed(3)
    means = torch.nn.functional.normalize(torch.randn(600, 3, generator=g), dim=1) * 0.1
    quats = torch.tensor([1.0, 0, 0, 0]).repeat(600, 1)
    return Gaussians(means, quats, torch.full((600, 3), 0.008), torch.full((600,), 0.9), torch.rand(600, 3, generator=g))


def drawn(gaussians: Gaussians, seen_by: Camera, background: torch.Tensor) -> torch.Tensor:
    return splat(gaussians, seen_by, background).image


def test_a_twist_turns_the_head_about_the_centre_and_shifts_it() -> None:
    twist = torch.tensor([[0.2, -0.1, 0.3, 0.01, 0.02, -0.03]])
    moved = twisted(camera(), twist, CENTRE)
    x = torch.tensor([0.03, -0.05, 0.07])
    R = axis_angle_to_matrix(twist[0, :3])
    by_hand = camera().viewmat[0, :3, :3] @ (R @ (x - CENTRE) + CENTRE + twist[0, 3:]) + camera().viewmat[0, :3, 3]
    assert torch.allclose(moved.viewmat[0, :3, :3] @ x + moved.viewmat[0, :3, 3], by_hand, atol=1e-6)


@pytest.mark.parametrize("hidden", [0, 20])
def test_a_pose_that_is_off_is_found_again(hidden: int) -> None:
    """Also where a part of the picture says nothing: there it is wrong here, and must not be looked at."""
    true, white = camera(), torch.ones(3)
    target = splat(ball(), true, white).image.detach()
    judged = torch.ones(1, SIZE, SIZE, dtype=torch.bool)
    judged[:, SIZE - hidden :] = False
    target[:, :, SIZE - hidden :] = 0.0
    off = twisted(true, torch.tensor([[0.02, -0.015, 0.01, 0.001, -0.002, 0.003]]), CENTRE)
    found = align([ball()], drawn, off, target, judged, white, 40)

    def error(one: Camera) -> float:
        here, there = (c.viewmat[0, :3, :3] @ ball().means.T + c.viewmat[0, :3, 3:] for c in (one, true))
        return float((here - there).norm(dim=0).mean())

    assert error(off) > 2e-3
    assert error(found) < 0.3 * error(off)


def test_corrections_are_zero_on_the_mean_and_come_back_from_a_checkpoint() -> None:
    cameras = Camera(camera().K.repeat(3, 1, 1), camera().viewmat.repeat(3, 1, 1), SIZE, SIZE)
    poses = PoseCorrections(cameras, CENTRE)
    for _ in range(4):
        poses.step(1, torch.tensor([[1.0, -2.0, 0.0, 3.0, 0.0, 0.0]]), 1e-3)
    assert poses.twists[1, 0] < 0 < poses.twists[1, 1] and poses.twists[1, 3] < 0
    assert poses.twists.mean(0).abs().max() < 1e-8
    again = PoseCorrections(cameras, CENTRE)
    again.load_state_dict(poses.state_dict())
    frames = torch.arange(3)
    assert torch.equal(again.camera(frames).viewmat, poses.camera(frames).viewmat)
    learned, one = poses.camera_to_learn(1, True)
    assert learned.requires_grad and torch.equal(one.viewmat[0], poses.camera(frames).viewmat[1])


def test_its_adam_is_torchs() -> None:
    g = torch.Generator().manual_seed(1)
    x = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([x], lr=0.01, betas=BETAS, eps=EPS)
    own, m, v = torch.zeros(6, dtype=torch.float64), torch.zeros(6, dtype=torch.float64), torch.zeros(6, dtype=torch.float64)
    for step in range(1, 9):
        x.grad = torch.randn(6, generator=g, dtype=torch.float64)
        optimizer.step()
        own -= 0.01 * adam(x.grad, m, v, step)
        assert torch.allclose(own, x.detach(), rtol=0, atol=1e-9)
