"""Fits to points of a surface, and distances from it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from avatar_models.heads.nphm import Codes, Nphm
from avatar_models.heads.nphm.fit import FitOptions, distances, fit
from tests.avatar_models.heads.nphm.tiny import codes, tiny


def sphere(x: Tensor) -> Tensor:
    """Twice the distance from a sphere of 0.1, to second order: slopes are not one."""
    return 2 * (x.norm(dim=-1) - 0.1)


def test_distances_from_a_sphere_are_its_radiuss_differences() -> None:
    x = normalize(torch.randn(50, 3), dim=1) * torch.linspace(0.08, 0.13, 50)[:, None]
    torch.testing.assert_close(distances(sphere, x), (x.norm(dim=1) - 0.1).abs(), atol=1e-6, rtol=1e-3)


def on_zero_level(model: Nphm, given: Codes, count: int) -> Tensor:
    """Points (F, N, 3) that the model itself has on its surfaces: of many the nearest to them."""
    many = 0.1 * torch.randn(len(given.expression), 20 * count, 3, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        nearest = model.sdf(many, given).abs().argsort(1)[:, :count]
    return many.gather(1, nearest[..., None].expand(-1, -1, 3))


def test_a_fit_explains_points_better_than_the_codes_it_starts_from() -> None:
    model = tiny()
    drawn = codes(3)
    truth = Codes(0.3 * drawn.geometry[:1].expand(3, -1), drawn.appearance, 0.3 * drawn.expression)
    points = on_zero_level(model, truth, 150)
    found = fit(model, points, None, FitOptions(steps=60, points=150, identity=1e-4, expression=1e-4, symmetry=0.0))
    assert found.geometry.shape == truth.geometry[:1].shape and found.expression.shape == truth.expression.shape

    def error(given: Codes) -> float:
        whole = Codes(given.geometry.expand(3, -1), truth.appearance, given.expression)
        with torch.no_grad():
            return float(model.sdf(points, whole).abs().median())

    start = model.zero_codes(3)
    assert error(found) < 0.8 * error(Codes(start.geometry[:1], start.appearance, start.expression))


def test_the_same_seed_gives_the_same_bits() -> None:
    model = tiny()
    points = 0.1 * torch.randn(2, 100, 3, generator=torch.Generator().manual_seed(3))
    normals = normalize(points, dim=2)
    options = FitOptions(steps=5, points=50)
    first, again = fit(model, points, normals, options, seed=4), fit(model, points, normals, options, seed=4)
    assert torch.equal(first.geometry, again.geometry) and torch.equal(first.expression, again.expression)
    assert not torch.equal(first.geometry, fit(model, points, None, options, seed=4).geometry)
