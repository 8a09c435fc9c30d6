"""What the branches say of Gaussians."""

from __future__ import annotations

import math

import torch

from avatar_models.gagavatar.branches import DIRECTION_DIM, MAX_SCALE, LiftingBranch, encoded
from avatar_models.gagavatar.settings import FIXED, RELEASED, activated


def test_a_direction_is_encoded_by_axis_then_frequency_sines_before_cosines() -> None:
    code = encoded(torch.tensor([[0.3, -0.5, 0.8]], dtype=torch.float64))[0].tolist()
    angles = [value * 2**k for value in (0.3, -0.5, 0.8) for k in range(4)]
    wanted = [*map(math.sin, angles), *map(math.cos, angles), 0.3, -0.5, 0.8]
    torch.testing.assert_close(code, wanted)


def test_the_value_of_a_pixel_becomes_the_gaussian_of_its_place_row_by_row() -> None:
    torch.manual_seed(0)
    branch = LiftingBranch(3, 4, 5)
    features, direction = torch.randn(2, 3, 6, 6), torch.randn(2, 27)
    attributes, lifts = branch(features, direction, FIXED)
    maps = branch.convs(torch.cat([features, direction[:, :, None, None].expand(-1, -1, 6, 6)], 1))
    row, column = 4, 1
    torch.testing.assert_close(attributes.colors[1, row * 6 + column], activated(maps[1, :5, row, column], 0))
    torch.testing.assert_close(attributes.scales[1, row * 6 + column], MAX_SCALE * maps[1, 6:9, row, column].sigmoid())
    torch.testing.assert_close(lifts[1, row * 6 + column], maps[1, 13, row, column].sigmoid())


def test_only_the_coarse_picture_is_held_between_zero_and_one() -> None:
    colors = torch.tensor([[5.0, -5.0, 0.0, 5.0, -5.0]])
    torch.testing.assert_close(activated(colors, 1), torch.tensor([[0.9933, 0.0067, 0.5, 5.0, -5.0]]), atol=1e-4, rtol=0)


def test_what_the_released_code_does_otherwise() -> None:
    cls, patches = torch.zeros(1, 4), torch.arange(8.0).reshape(1, 2, 4)
    assert FIXED.global_feature(cls, patches) is cls
    assert RELEASED.global_feature(cls, patches).tolist() == [[0, 1, 2, 3]]

    quats = torch.randn(1, 50, 4)
    torch.testing.assert_close(FIXED.vertex_quats(quats).norm(dim=2), torch.ones(1, 50))
    torch.testing.assert_close(RELEASED.vertex_quats(quats).norm(dim=1), torch.ones(1, 4))

    colors = torch.full((1, 5, 4, 6), -3.0)
    in_first_columns = RELEASED.lifted_colors(colors) > 0
    assert in_first_columns[..., :3].all() and not in_first_columns[..., 3:].any()
    in_first_channels = FIXED.lifted_colors(colors) > 0
    assert in_first_channels[:, :3].all() and not in_first_channels[:, 3:].any()


def test_a_lifted_point_starts_from_the_colour_that_it_is_given() -> None:
    branch = LiftingBranch(4, 6, 5)
    torch.nn.init.zeros_(branch.convs[-1].weight)
    torch.nn.init.zeros_(branch.convs[-1].bias)
    first = torch.rand(2, 3, 3, 3) * 0.9 + 0.05
    first[0, :, 0, 0] = 0.0  # black is drawn in a little, so that it can be learned away from
    direction = torch.zeros(2, DIRECTION_DIM)
    attributes, _ = branch(torch.randn(2, 4, 3, 3), direction, FIXED, first)
    shown = attributes.colors[..., :3].mT.unflatten(2, (3, 3))
    torch.testing.assert_close(shown, first.clamp(0.01, 0.99))
    grey, _ = branch(torch.randn(2, 4, 3, 3), direction, FIXED)
    torch.testing.assert_close(grey.colors[..., :3], torch.full((2, 9, 3), 0.5))
