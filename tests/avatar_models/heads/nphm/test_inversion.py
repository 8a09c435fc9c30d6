"""The deformation turned round: what it brings back, its gradients in float64, and where there is nothing to find."""

from __future__ import annotations

import torch

from avatar_models.heads.nphm import Codes, Nphm
from avatar_models.heads.nphm.inversion import posed
from tests.avatar_models.heads.nphm.faceted import faceted, stone_codes
from tests.avatar_models.heads.nphm.tiny import points


def of(model: Nphm, count: int) -> Codes:
    given = stone_codes(count)
    kind = model.canonical.mean_anchors.dtype
    return Codes(given.geometry.to(kind), given.appearance.to(kind), 0.3 * given.expression.to(kind))


def test_posed_points_are_brought_back() -> None:
    model = faceted()
    given, x_rest = of(model, 2), points(2, 200)
    found = posed(model, x_rest, given)
    assert (found.points - x_rest).norm(dim=2).mean() > 0.002  # the deformation does something
    back = model.at_rest(found.points, given)[..., :3]
    assert (back - x_rest).norm(dim=2).max() < 1e-6 and bool(found.converged(1e-6).all())
    torch.testing.assert_close(found.residual, (back - x_rest).norm(dim=2).detach(), rtol=0, atol=1e-7)


def test_posing_what_was_brought_back_gives_the_same_points() -> None:
    model = faceted().double()
    given, x = of(model, 1), points(1, 100).double()
    rest = model.at_rest(x, given)[..., :3].detach()
    torch.testing.assert_close(posed(model, rest, given, tolerance=1e-13).points, x, rtol=0, atol=1e-11)


def test_gradients_are_those_of_finite_differences() -> None:
    model = faceted().double()
    given, x_rest = of(model, 2), points(2, 3).double().requires_grad_()
    parts = [part.requires_grad_() for part in (given.geometry, given.expression)]

    def places(x_rest, geometry, expression):
        return posed(model, x_rest, Codes(geometry, given.appearance, expression), steps=20, tolerance=1e-14).points

    assert torch.autograd.gradcheck(places, (x_rest, *parts), fast_mode=True)
    weight = model.deformation.layers[1].weight
    places(x_rest, *parts).sum().backward()
    assert weight.grad is not None and bool(weight.grad.any())


def test_what_is_not_found_is_told() -> None:
    model = faceted()
    with torch.no_grad():
        for layer in model.deformation.layers:
            layer.weight *= 2  # so that the field folds
        given, x_rest = of(model, 1), points(1, 300)
        found = posed(model, x_rest, given)
        apart = (model.at_rest(found.points, given)[..., :3] - x_rest).norm(dim=2)
    assert bool(found.points.isfinite().all())
    assert torch.equal(found.converged(), apart < 1e-5)
    assert 0.1 < found.converged().float().mean() < 0.9


def test_without_gradients_nothing_is_recorded() -> None:
    model = faceted()
    with torch.no_grad():
        assert not posed(model, points(1, 5), of(model, 1)).points.requires_grad
