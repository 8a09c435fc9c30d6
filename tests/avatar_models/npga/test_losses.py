"""The terms against their definitions."""

from __future__ import annotations

import math

import torch

from avatar_models.metrics import ssim_map
from avatar_models.npga.losses import LARGEST_M, Weights, beyond, laplacian, losses, nearest
from tests.avatar_models.npga.made import avatar, camera


def test_neighbours_are_the_nearest_others() -> None:
    means = torch.tensor([[0.0, 0, 0], [1.0, 0, 0], [1.5, 0, 0], [4.0, 0, 0]])
    assert nearest(means, 2).tolist() == [[1, 2], [2, 0], [1, 0], [2, 1]]
    assert nearest(means, 9).shape == (4, 3)  # there are no more


def test_the_laplacian_is_how_far_a_value_is_from_its_neighbours_mean() -> None:
    x = torch.tensor([[0.0], [2.0], [4.0]])
    neighbours = torch.tensor([[1, 2], [0, 2], [0, 1]])  # means 3, 2, 1
    torch.testing.assert_close(laplacian(x, neighbours), torch.tensor((9 + 0 + 9) / 3))


def test_scales_within_their_range_cost_nothing() -> None:
    within = torch.tensor([[2e-4, 1e-3, 9e-3]]).log()
    assert beyond(within) == 0
    too_large = torch.tensor([[1e-3, 1e-3, 2 * LARGEST_M]]).log()
    torch.testing.assert_close(beyond(too_large), torch.tensor(math.log(2) ** 2 / 3))


def test_terms_add_up_and_the_pictures_are_compared_as_eq_10_says() -> None:
    model = avatar()
    torch.nn.init.normal_(model.G[-1].weight, std=0.1)
    moved, g = model.moved(torch.randn(4)), torch.Generator().manual_seed(0)
    image = model.splatted(moved.gaussians, camera(), torch.ones(3)).image
    target = torch.rand(1, 3, 32, 32, generator=g)
    weights = Weights()
    terms = losses(model, moved, image, target, nearest(model.mu, 3), weights)
    torch.testing.assert_close(terms["loss"], torch.stack([value for name, value in terms.items() if name != "loss"]).sum())
    wanted = 0.8 * (image[:, :3] - target).abs().mean() + 0.2 * (1 - ssim_map(image[:, :3], target).mean())
    torch.testing.assert_close(terms["raw"], wanted, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(terms["refined"], wanted, rtol=1e-4, atol=1e-6)  # nothing is changed yet
    size = sum(float(x.square().sum(1).mean()) for x in moved.detail.values())
    assert math.isclose(float(terms["detail"]), weights.detail * size, rel_tol=1e-5)
    assert math.isclose(
        float(terms["coarse"]), weights.coarse * float((100 * moved.coarse).square().sum(1).mean()), rel_tol=1e-5
    )
    assert terms["laplacian"] > 0 and terms["scales"] >= 0
