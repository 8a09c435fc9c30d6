"""What a neural head learns of registered scans: each term by hand, and its gradients in float64."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor

from avatar_models.heads.nphm import Codes
from avatar_models.heads.nphm.losses import Scans, Weights, asymmetry, losses
from tests.avatar_models.heads.nphm.tiny import TINY, codes, points, tiny


def scans(count: int) -> Scans:
    torch.manual_seed(5)
    normals = torch.nn.functional.normalize(torch.randn(count, 7, 3), dim=2)
    surface = points(count, 12).double()
    anchors = 0.1 * torch.randn(count, TINY.num_anchors, 3)
    neutral = torch.arange(count) % 2 == 0
    return Scans(surface[:, :7], normals.double(), 0.9 * surface[:, :7], surface[:, 7:], anchors.double(), neutral)


def doubled(given: Codes) -> Codes:
    return Codes(given.geometry.double(), given.appearance.double(), given.expression.double())


def test_each_term_is_what_the_paper_says() -> None:
    model, given, own = tiny().double(), doubled(codes(2)), scans(2)
    found = losses(model, given, own, Weights())
    sdf, gradient = model.sdf_and_gradient(own.surface, given)
    at_rest = model.at_rest(own.surface, given)
    everywhere = torch.cat([own.surface, own.around], 1)
    hyper = model.at_rest(everywhere, given)[..., 3:].abs().mean((1, 2))
    lengths = model.sdf_and_gradient(everywhere, given)[1].norm(dim=2)
    moved = model.at_rest(own.around, given)[..., :3] - own.around
    wanted = {
        "eikonal": 0.15 * (lengths - 1).square().mean(),
        "hyper": 0.05 * (11 * hyper[0] + hyper[1]) / 2,  # the first scan is neutral
        "offset": 0.0025 * (4 * moved).square().mean(),
        "symmetry": 0.01 * asymmetry(model, given.geometry).mean(),
        "surface": 1.0 * (4 * sdf).abs().mean(),
        "normals": 0.3 * (gradient - own.normals).norm(dim=2).mean(),
        "off_surface": 0.01 * torch.exp(-10 * (4 * model.sdf(own.around, given)).abs()).mean(),
        "correspondence": 1000 * (4 * (at_rest[..., :3] - own.rest)).square().mean(),
        "anchors": 7.5 * (4 * (model.anchors(given.geometry) - own.anchors)).square().mean(),
        "neutral": 0.001 * (4 * (at_rest[0, :, :3] - own.surface[0])).square().mean() / 2,  # the second scan is none
        "identity": 0.01 * given.geometry.square().sum(1).mean(),
        "expression": 0.05 * given.expression.square().sum(1).mean(),
    }
    assert set(wanted) == set(found) - {"loss"}
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-12, msg=name)
    torch.testing.assert_close(found["loss"], sum(value for name, value in found.items() if name != "loss"))


def test_a_weight_of_zero_leaves_a_term_out() -> None:
    model, given, own = tiny(), codes(2), scans(2)
    own = Scans(*(getattr(own, field.name).float() if field.name != "neutral" else own.neutral for field in fields(Scans)))
    for field in fields(Weights):
        assert float(losses(model, given, own, replace(Weights(), **{field.name: 0.0}))[field.name]) == 0.0


def test_gradients_are_those_of_finite_differences() -> None:
    model, own, given = tiny().double(), scans(1), doubled(codes(1))

    def loss(geometry: Tensor, expression: Tensor) -> Tensor:
        return losses(model, Codes(geometry, given.appearance, expression), own, Weights())["loss"]

    parts = (given.geometry.requires_grad_(), given.expression.requires_grad_())
    assert torch.autograd.gradcheck(loss, parts, fast_mode=True, atol=1e-4)


def test_a_face_is_symmetric_where_both_sides_have_the_same_codes() -> None:
    model, geometry = tiny(), codes(1).geometry.clone()
    local = geometry[:, TINY.global_code :].view(1, TINY.num_regions, -1)
    assert float(asymmetry(model, geometry)) > 0
    local[:, 1 : 2 * TINY.num_pairs : 2] = local[:, 0 : 2 * TINY.num_pairs : 2]
    assert float(asymmetry(model, geometry)) == 0
    local[0, 0, 0] += 2.0
    width = local.shape[2]
    assert float(asymmetry(model, geometry)) == pytest.approx(4.0 / (TINY.num_pairs * width))
