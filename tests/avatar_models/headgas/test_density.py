"""Density control on a whole avatar: what an edit does to parameters, basis and moments, and when edits are due."""

from __future__ import annotations

import pytest
import torch

from avatar_models.blending import RankOneAdam
from avatar_models.cameras import Camera
from avatar_models.densify import Edit, GrowthRules, PruneRules
from avatar_models.density_control import DensityControl, DensityRules
from avatar_models.headgas import VARIANTS, HeadGas, HeadGasSizes, parameter_groups
from avatar_models.headgas.density import HeadGasSet
from avatar_models.splatting import splat

COUNT, FEATURES = 30, 4
RULES = DensityRules(10, 100, 10, 0, 1.0, GrowthRules(gradient=1e-9, max_count=40), PruneRules(large=10, screen=10))


def trained(variant: str = "full", steps: int = 3) -> tuple[HeadGas, torch.optim.Adam, RankOneAdam]:
    """A small avatar after some steps, so that every moment is there."""
    g = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    sizes = HeadGasSizes(COUNT, 5, FEATURES, hidden_dim=8, sh_degree=1, position_frequencies=2, variant=variant)
    model = HeadGas(sizes)
    model.initialise(torch.rand(COUNT, 3, generator=g) * 0.2, torch.rand(COUNT, 3, generator=g), torch.rand(7, 5, generator=g))
    if variant == "rigged":
        model.ride_on(0.01 * torch.rand(5, COUNT, 3, generator=g))
    optimizer = torch.optim.Adam(parameter_groups(model, 5e-3, 0.2), eps=1e-15)
    basis = RankOneAdam(model.F, 5e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        made = model.gaussians(torch.rand(5, generator=g), basis.blend)
        loss = made.colors.square().sum() + made.opacities.sum() + made.means.square().sum()
        (loss + made.scales.sum() + made.quats.square().sum()).backward()  # type: ignore[union-attr]
        optimizer.step()
        basis.step()
    return model, optimizer, basis


def rows(tensor: torch.Tensor) -> torch.Tensor:
    """F or a moment of it with an axis of Gaussians, (N, E, D)."""
    return tensor.detach().reshape(5, -1, FEATURES).transpose(0, 1)


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_edit_keeps_each_gaussian_whole(variant: str) -> None:
    model, optimizer, basis = trained(variant)
    condition = torch.rand(5)
    before = model.gaussians(condition)
    source = torch.tensor([7, 7, 2, 29])
    HeadGasSet(model, optimizer, basis).apply(Edit(source, torch.tensor([False, True, False, True])))
    after = model.gaussians(condition)
    for name in ("means", "quats", "scales", "opacities", "colors"):
        assert torch.allclose(getattr(after, name), getattr(before, name)[source], atol=1e-6), name
    assert model.sizes.num_gaussians == 4 and HeadGas.from_tensors(model.tensors(), model.sizes_as_dict())


def test_moments_go_with_their_gaussians_and_fresh_ones_have_none() -> None:
    model, optimizer, basis = trained()
    m, v = rows(basis.m).clone(), rows(basis.v).clone()
    of_mu = optimizer.state[model.mu]["exp_avg"].clone()
    HeadGasSet(model, optimizer, basis).apply(Edit(torch.tensor([7, 7]), torch.tensor([False, True])))
    for found, was in ((rows(basis.m), m), (rows(basis.v), v), (optimizer.state[model.mu]["exp_avg"], of_mu)):
        assert torch.equal(found[0], was[7]) and was[7].abs().max() > 0 and not found[1].any()


def test_a_grown_set_goes_on_training() -> None:
    model, optimizer, basis = trained()
    control = DensityControl(RULES, model.mu, seed=0)
    viewmat = torch.eye(4)[None].clone()
    viewmat[0, 2, 3] = 0.5
    camera = Camera(torch.tensor([[[60.0, 0, 16], [0, 60, 16], [0, 0, 1]]]), viewmat, 32, 32)
    for step in range(1, 11):
        made = model.gaussians(torch.ones(5) * step / 10, basis.blend)
        splats = splat(made, camera)
        splats.means2d.retain_grad()
        optimizer.zero_grad()
        splats.image.square().mean().backward()
        optimizer.step()
        basis.step()
        control.watch(splats, made.opacities, 32, 32)
        control.edit(step, HeadGasSet(model, optimizer, basis))
    assert COUNT < len(model.mu) <= 40 and model.F.shape == (5, len(model.mu) * FEATURES) == basis.m.shape
    assert not control.stats.views.any() and not control.peak.any()
    model.gaussians(torch.ones(5), basis.blend).colors.sum().backward()
    optimizer.step()
    basis.step()


def test_what_no_recent_frame_showed_goes() -> None:
    model, optimizer, basis = trained()
    control = DensityControl(RULES, model.mu, seed=0)
    control.peak = torch.full((COUNT,), 0.5)
    control.peak[3] = 0.001
    kept = torch.cat([model.mu[:3], model.mu[4:]]).clone()
    control.edit(10, HeadGasSet(model, optimizer, basis))
    assert torch.equal(model.mu, kept)


def test_opacity_is_lowered_in_all_expressions_alike() -> None:
    model, optimizer, basis = trained()
    condition = torch.rand(5)
    before = torch.logit(model.gaussians(condition).opacities)
    HeadGasSet(model, optimizer, basis).lower_opacity(torch.full((COUNT,), 0.5), torch.full((COUNT,), 0.01))
    after = torch.logit(model.gaussians(condition).opacities)
    assert torch.allclose(before - after, torch.full((COUNT,), 4.595), atol=1e-3)


def test_a_loaded_control_draws_the_same_halves() -> None:
    model, _, _ = trained()
    control = DensityControl(RULES, model.mu, seed=3)
    torch.randn(5, generator=control.generator)
    other = DensityControl(RULES, model.mu, seed=4)
    other.load_state_dict(control.state_dict())
    assert torch.equal(torch.randn(5, generator=control.generator), torch.randn(5, generator=other.generator))


def test_edits_are_due_on_a_grid_between_start_and_stop() -> None:
    rules = DensityRules(25, 60, 10, 20, 1.0, GrowthRules(), PruneRules())
    assert [step for step in range(100) if rules.is_edit_due(step)] == [30, 40, 50, 60]
    assert [step for step in range(100) if rules.is_reset_due(step)] == [40]
    assert not rules.is_watching(14) and rules.is_watching(15) and not rules.is_watching(60)
    never = DensityRules(25, 0, 10, 20, 1.0, GrowthRules(), PruneRules())
    assert not any(never.is_edit_due(step) or never.is_watching(step) for step in range(100))
