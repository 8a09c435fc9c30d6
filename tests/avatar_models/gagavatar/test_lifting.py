"""The points of a plane, judged by projecting them with the photo's camera."""

from __future__ import annotations

import torch

from avatar_models.cameras import project
from avatar_models.gagavatar.lifting import plane
from tests.avatar_models.gagavatar.tiny import SIDE, cameras


def test_points_lie_behind_their_pixels_row_by_row_from_edge_to_edge() -> None:
    camera = cameras(3).to(dtype=torch.float64)
    points, _ = plane(camera, 5)
    steps = torch.linspace(0, SIDE, 5, dtype=torch.float64)
    wanted = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), -1).reshape(25, 2)
    torch.testing.assert_close(project(points, camera), wanted.expand(3, -1, -1), atol=1e-5, rtol=0)  # R is float32's


def test_the_plane_goes_through_the_heads_origin_at_a_right_angle_to_the_axis() -> None:
    points, axis = plane(cameras(3).to(dtype=torch.float64), 4)
    torch.testing.assert_close((points * axis[:, None]).sum(2), torch.zeros(3, 16, dtype=torch.float64))
    torch.testing.assert_close(axis.norm(dim=1), torch.ones(3, dtype=torch.float64))


def test_the_axis_points_away_from_the_camera() -> None:
    camera = cameras(2)
    _, axis = plane(camera, 2)
    ahead = camera.viewmat[:, :3, :3] @ axis[..., None]
    torch.testing.assert_close(ahead[..., 0], torch.tensor([[0.0, 0.0, 1.0]]).expand(2, 3), atol=1e-6, rtol=0)
