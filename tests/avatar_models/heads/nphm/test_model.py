"""The posed head: its gradients in float64, its deformation, its surface."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import softplus

from avatar_models.heads.nphm import Codes, SurfaceError, surface
from tests.avatar_models.heads.nphm.tiny import TINY, codes, points, tiny


def doubled(given: Codes) -> Codes:
    return Codes(given.geometry.double(), given.appearance.double(), given.expression.double())


def test_the_deformation_is_the_plain_network() -> None:
    model = tiny().double()
    given, x = doubled(codes(1)), points(1, 9).double()
    deformation = model.deformation
    about = deformation.compress(torch.cat([given.geometry, 4 * model.anchors(given.geometry).flatten(1)], 1))
    inputs = torch.cat([4 * x[0], torch.cat([about, given.expression], 1).expand(9, -1)], 1)
    h = inputs
    for place, layer in enumerate(deformation.layers):
        h = layer(torch.cat([h, inputs], 1) / math.sqrt(2) if place == 2 else h)
        if place < 4:
            h = softplus(h, 100)
    found = model.at_rest(x, given)[0]
    torch.testing.assert_close(found, torch.cat([x[0] + h[:, :3] / 4, h[:, 3:]], 1), rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(
        model.sdf(x, given), model.sdf_at_rest(found[None, :, :3], given.geometry, found[None, :, 3:]), rtol=1e-10, atol=1e-12
    )


def test_normals_and_their_gradients_are_those_of_finite_differences() -> None:
    model = tiny().double()
    given, x = doubled(codes(2)), points(2, 3).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: model.sdf_and_color(x, given), (x,), fast_mode=True)
    parts = [part.requires_grad_() for part in (given.geometry, given.expression)]

    def gradients(x, geometry, expression):  # of what a loss of normals asks for
        return model.sdf_and_gradient(x, Codes(geometry, given.appearance, expression))[1]

    assert torch.autograd.gradcheck(gradients, (x, *parts), fast_mode=True)


def test_a_loss_of_normals_reaches_every_weight_of_the_geometry() -> None:
    model, given = tiny(), codes(2)
    sdf, gradient = model.sdf_and_gradient(points(2, 200), given)
    ((gradient.norm(dim=2) - 1).square().mean() + sdf.abs().mean()).backward()
    _, color = model.sdf_and_color(points(2, 200), given)
    color.abs().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())


def test_without_gradients_nothing_is_recorded() -> None:
    with torch.no_grad():
        sdf, gradient = tiny().sdf_and_gradient(points(1, 5), codes(1))
        normals = tiny().normals(points(1, 5), codes(1))
    assert not sdf.requires_grad and not gradient.requires_grad
    torch.testing.assert_close(normals.norm(dim=2), torch.ones(1, 5))


def test_people_of_a_batch_do_not_see_each_other() -> None:
    model, given, x = tiny(), codes(3), points(3, 20)
    sdf, color = model.sdf_and_color(x, given)
    for one in range(3):
        of_one = Codes(*(part[one : one + 1] for part in (given.geometry, given.appearance, given.expression)))
        found = model.sdf_and_color(x[one : one + 1], of_one)
        torch.testing.assert_close(found, (sdf[one : one + 1], color[one : one + 1]), rtol=1e-5, atol=1e-6)


def test_a_spheres_surface_has_its_radius_and_faces_outwards() -> None:
    center, radius = torch.tensor([0.01, 0.02, -0.05]), 0.08
    asked = 0

    def sphere(x: torch.Tensor) -> torch.Tensor:
        nonlocal asked
        asked += len(x)
        return (x - center).norm(dim=1) - radius

    found = surface(sphere, 0.002)
    assert ((found.vertices - center).norm(dim=1) - radius).abs().max() < 1e-5
    a, b, c = (found.vertices[found.faces[:, corner]] - center for corner in range(3))
    volume = (a * torch.linalg.cross(b, c)).sum() / 6
    assert abs(float(volume) / (4 / 3 * math.pi * radius**3) - 1) < 2e-3
    assert asked < 0.1 * (0.275 * 0.3125 * 0.3375) / 0.002**3


def test_a_box_without_a_surface_says_so() -> None:
    with pytest.raises(SurfaceError, match=r"no surface between .* metres: distances are 1.0000 to 1.0000"):
        surface(lambda x: torch.ones(len(x)), 0.02)


def test_a_heads_own_surface_is_where_its_distance_is_zero() -> None:
    model = tiny()
    with torch.no_grad():  # a ball that the random fields only dent
        for part in (model.canonical.geometry.last, model.deformation.layers[-1].weight, model.deformation.layers[-1].bias):
            part *= 0.001
        model.canonical.geometry.last_bias.zero_()
    given = codes(1)
    found = surface(lambda x: model.sdf(x[None], given)[0] + x.norm(dim=1) - 0.07, 0.004)
    assert (found.vertices.norm(dim=1) - 0.07).abs().max() < 0.002
    assert found.faces.max() < len(found.vertices) and TINY.hyper == 2
