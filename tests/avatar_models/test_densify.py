"""Density control: what each edit does to the set, and that relocation leaves the picture alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from avatar_models.cameras import Camera
from avatar_models.densify import (
    GrowthRules,
    PruneRules,
    add_views,
    choose_growth,
    clone,
    decay_opacity,
    explore,
    mean_gradient,
    no_stats,
    prune,
    relocate,
    reset_opacity,
    split,
    split_opacity,
)
from avatar_models.gaussians import Gaussians
from avatar_models.splatting import splat


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_gradients_are_averaged_over_the_views_that_saw_a_gaussian() -> None:
    v = torch.zeros(2, 3, 2)
    v[0, 0] = torch.tensor([3.0, 4.0]) / 20  # half a picture of 40 is 20 pixels
    v[1, 0] = torch.tensor([0.0, 1.0]) / 20
    v[0, 1] = 1.0
    radii = torch.tensor([[[2, 2], [1, 1], [0, 0]], [[9, 4], [0, 0], [0, 0]]], dtype=torch.int32)
    plain = add_views(no_stats(3), v, radii, 40, 40)
    assert mean_gradient(plain)[0] == pytest.approx(2 * (5 + 1) / 2)  # twice, for two views in the batch
    assert mean_gradient(plain)[2] == 0
    assert plain.largest.tolist() == pytest.approx([9 / 40, 1 / 40, 0])
    squared = add_views(no_stats(3, exponent=2.0), v, radii, 40, 40)
    assert mean_gradient(squared)[0] == pytest.approx(2 * np.sqrt((25 + 1) / 2))


def test_small_ones_are_cloned_and_large_ones_split_while_there_is_room() -> None:
    stats = add_views(no_stats(4), torch.tensor([[[1.0, 0], [1.0, 0], [0, 0], [2.0, 0]]]), torch.ones(1, 4, 2), 2, 2)
    scales = torch.tensor([0.001, 0.5, 0.5, 0.5])[:, None].expand(4, 3)
    clones, splits = choose_growth(stats, scales, 1.0, GrowthRules(gradient=0.5))
    assert clones.tolist() == [True, False, False, False] and splits.tolist() == [False, True, False, True]
    clones, splits = choose_growth(stats, scales, 1.0, GrowthRules(gradient=0.5, max_count=5))
    assert (clones | splits).tolist() == [False, False, False, True]  # room for one: the largest gradient


def test_an_edit_moves_parameters_and_clears_moments_on_any_axis() -> None:
    edit = clone(3, torch.tensor([False, True, False]))
    basis = torch.arange(6.0).reshape(2, 3)
    assert edit.apply(basis, 1).tolist() == [[0, 1, 2, 1], [3, 4, 5, 4]]
    assert edit.apply_moment(basis + 1, 1).tolist() == [[1, 2, 3, 0], [4, 5, 6, 0]]


def test_the_two_halves_are_spread_as_the_one_was() -> None:
    count = 20_000
    quats = torch.tensor([0.9, 0.1, -0.3, 0.2]).expand(count, 4)
    scales = torch.tensor([0.3, 0.1, 0.02]).expand(count, 3)
    edit, means, small = split(torch.ones(count, 3), quats, scales, torch.ones(count).bool(), generator())
    assert len(means) == 2 * count and bool(edit.fresh.all())
    from avatar_models.rotations import quaternion_to_matrix

    N = quaternion_to_matrix(quats[0]) * scales[0]
    found = torch.cov((means - 1).T)
    assert torch.allclose(found, N @ N.T, atol=0.01 * float((N @ N.T).max()))
    assert torch.allclose(small[0], scales[0] / 1.6)


def test_pruning_takes_the_transparent_and_the_huge() -> None:
    opacities = torch.tensor([0.5, 0.001, 0.5, 0.5])
    scales = torch.tensor([0.01, 0.01, 0.9, 0.01])[:, None].expand(4, 3)
    radii = torch.tensor([1, 1, 1, 30])[None, :, None].expand(1, 4, 2)
    stats = add_views(no_stats(4), torch.zeros(1, 4, 2), radii, 100, 100)
    assert prune(opacities, scales, stats, 1.0, PruneRules()).source.tolist() == [0]


def test_opacity_is_reset_and_decays() -> None:
    logits = torch.tensor([-9.0, 0.0, 5.0])
    assert torch.sigmoid(reset_opacity(logits)).tolist() == pytest.approx([1.234e-4, 0.01, 0.01], rel=1e-3)
    assert torch.sigmoid(decay_opacity(logits, 0.9)).tolist() == pytest.approx([1.111e-4, 0.45, 0.894], rel=1e-3)


@pytest.mark.parametrize(("opacity", "copies"), [(0.7, 2), (0.95, 5), (0.2, 3)])
def test_copies_have_the_integral_of_the_one(opacity: float, copies: int) -> None:
    o, shrink = split_opacity(torch.tensor([opacity]), torch.tensor([copies]))
    assert 1 - (1 - float(o)) ** copies == pytest.approx(opacity, rel=1e-5)
    one = quad(lambda x: opacity * np.exp(-0.5 * x * x), -12, 12)[0]
    many = quad(lambda x: 1 - (1 - float(o) * np.exp(-0.5 * (x / float(shrink)) ** 2)) ** copies, -12, 12)[0]
    assert many == pytest.approx(one, rel=1e-5)


def test_relocation_leaves_the_picture_nearly_alone() -> None:
    count = 60
    means = torch.randn(count, 3, generator=generator()) * 0.1
    quats, scales = torch.ones(count, 4), torch.full((count, 3), 0.02)
    opacities = torch.rand(count, generator=generator()) * 0.6 + 0.2
    opacities[::4] = 1e-4
    colors = torch.rand(count, 3, generator=generator())
    K = torch.tensor([[[80.0, 0, 20], [0, 80, 20], [0, 0, 1]]])
    viewmat = torch.eye(4)[None].clone()
    viewmat[0, 2, 3] = 1.0
    camera = Camera(K, viewmat, 40, 40)
    before = splat(Gaussians(means, quats, scales, opacities, colors), camera).image
    edit, new_opacities, new_scales = relocate(opacities, scales, opacities < 0.005, generator())
    moved = Gaussians(edit.apply(means), quats, new_scales, new_opacities, edit.apply(colors))
    assert len(moved) == count and int(edit.fresh.sum()) >= 15
    naive = Gaussians(edit.apply(means), quats, scales, edit.apply(opacities), edit.apply(colors))
    error = (splat(moved, camera).image - before).abs().mean()
    assert error < 0.15 * (splat(naive, camera).image - before).abs().mean()


def test_noise_moves_only_the_transparent() -> None:
    opacities = torch.tensor([0.9, 1e-4])
    means = explore(torch.zeros(2, 3), torch.ones(2, 4), torch.full((2, 3), 0.1), opacities, 10.0, generator())
    assert means[0].norm() < 1e-6 < 1e-3 < means[1].norm()
