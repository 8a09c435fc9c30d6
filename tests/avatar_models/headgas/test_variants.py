"""The ablations of HeadGaS's table: what each may change, and that it can learn."""

from __future__ import annotations

import pytest
import torch

from avatar_models.headgas import VARIANTS, HeadGas, HeadGasSizes

MOVES = {
    "full": set(),
    "rigged": {"means"},
    "no_blending": set(),
    "no_mlp": set(),
    "delta_geometry": {"means", "quats"},
    "change_all": {"means", "quats", "scales"},
}


def made(variant: str) -> HeadGas:
    torch.manual_seed(1)
    model = HeadGas(HeadGasSizes(12, 5, feature_dim=4, hidden_dim=8, sh_degree=1, position_frequencies=2, variant=variant))
    model.initialise(torch.rand(12, 3), torch.rand(12, 3), torch.rand(7, 5))
    return model


def riding() -> HeadGas:
    """A rigged model of which every second Gaussian moves, by the first value of the condition."""
    model = made("rigged")
    motion = torch.zeros(5, 12, 3)
    motion[0, ::2, 1] = 0.02
    model.ride_on(motion)
    return model


@pytest.mark.parametrize("variant", VARIANTS)
def test_it_starts_still(variant: str) -> None:
    model = made(variant)
    first, second = model.gaussians(torch.zeros(5)), model.gaussians(torch.ones(5))
    for name in ("means", "quats", "scales", "opacities", "colors"):
        assert torch.equal(getattr(first, name), getattr(second, name)), name


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_expression_changes_what_the_variant_says_and_nothing_else(variant: str) -> None:
    model = riding() if variant == "rigged" else made(variant)
    with torch.no_grad():
        for parameter in (model.F, *model.phi[2:].parameters()):
            parameter.normal_(0, 0.3)
    first, second = model.gaussians(torch.zeros(5)), model.gaussians(torch.ones(5))
    names = ("means", "quats", "scales", "opacities", "colors")
    changed = {name for name in names if not torch.equal(getattr(first, name), getattr(second, name))}
    assert changed == {"opacities", "colors"} | MOVES[variant]


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_is_saved_comes_back(variant: str) -> None:
    model = made(variant)
    again = HeadGas.from_tensors(model.tensors(), model.sizes_as_dict())
    assert torch.equal(again.gaussians(torch.ones(5)).colors, model.gaussians(torch.ones(5)).colors)


def test_rigged_gaussians_go_with_the_surface_beyond_what_training_saw() -> None:
    model = riding()
    far = torch.zeros(5)
    far[0] = 50.0  # where features are held within three spreads
    moved = model.gaussians(far).means - model.mu
    assert torch.allclose(moved[::2], torch.tensor([0.0, 1.0, 0.0]).expand(6, 3), atol=1e-6)
    assert torch.equal(moved[1::2], torch.zeros(6, 3))


def test_an_expression_has_little_say_where_the_surface_rests() -> None:
    model = riding()
    with torch.no_grad():
        model.F.normal_()
        model.phi[2].weight.normal_()
    assert model.locality[1] == pytest.approx(0.1) and model.locality[0] > 0.9
    features = model.blended(model.weights(torch.ones(5)), lambda e, F: e @ F) - model.f0
    phi = model.phi(torch.cat([model.locality[:, None] * features + model.f0, *model.psi(model.mu)], 1))
    assert torch.allclose(model.gaussians(torch.ones(5)).opacities, torch.sigmoid(phi + model.base)[:, -1], atol=1e-6)


def test_without_the_mlp_the_basis_is_colour_and_opacity() -> None:
    model = made("no_mlp")
    with torch.no_grad():
        model.F.normal_()
    e = model.weights(torch.ones(5))
    blended = torch.einsum("e,enk->nk", e, model.F.reshape(5, 12, 13)) + model.base
    found = model.gaussians(torch.ones(5))
    assert torch.allclose(found.opacities, torch.sigmoid(blended[:, 12]), atol=1e-6)
    assert torch.allclose(found.colors.flatten(1), blended[:, :12], atol=1e-5)


def test_fewer_harmonics_may_be_shown_than_there_are() -> None:
    model = made("full")
    model.sh_shown = 0
    assert model.gaussians(torch.ones(5)).colors.shape == (12, 1, 3)
