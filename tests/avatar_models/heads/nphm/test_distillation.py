"""Going there and back: gradients in float64, and a deformation whose inverse is known in closed form."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from avatar_models.heads.nphm.distillation import FeatureOptions, Weights, cycle_error, fit_planes, losses
from avatar_models.heads.nphm.forward import ForwardField, ForwardSizes, TriPlanes
from avatar_models.heads.nphm.model import Codes, Nphm
from tests.avatar_models.heads.nphm.tiny import codes, points, tiny

SIZES = ForwardSizes(expression_code=5, feature_dim=3, hidden=32, layers=3, plane_size=8)


class Shifted:
    """A head whose expression e moves all points by e[:3] centimetres, and by twice that for the second person."""

    def at_rest(self, points: Tensor, codes: Codes) -> Tensor:
        far = 1 + codes.geometry[:, :1]
        return points - 0.01 * (far * codes.expression[:, :3])[:, None]


def shifted() -> Nphm:
    return cast(Nphm, cast(Any, Shifted()))


def test_gradients_are_those_of_finite_differences() -> None:
    model, own = tiny().double(), codes(2)
    field, planes = ForwardField(SIZES).double(), TriPlanes(SIZES, 2).double()
    torch.manual_seed(0)
    torch.nn.init.normal_(field.layers[-1].weight, std=0.05)
    given = Codes(*(part.double() for part in (own.geometry, own.appearance, own.expression)))
    weight, values = field.layers[2].weight, planes.planes

    def loss(weight: Tensor, values: Tensor) -> Tensor:
        parameters = {"layers.2.weight": weight}

        class Field:
            def __call__(self, *arguments: Tensor) -> Tensor:
                return torch.func.functional_call(field, parameters, arguments)

        class Planes:
            planes = values

            def __call__(self, x: Tensor, people: Tensor) -> Tensor:
                return torch.func.functional_call(TriPlanes(SIZES, 2).double(), {"planes": values}, (x, people))

        found = losses(model, cast(Any, Field()), cast(Any, Planes()), points(2, 3).double(), torch.arange(2), given, Weights())
        return found["loss"]

    inputs = (weight.detach().requires_grad_(), values.detach().requires_grad_())
    assert torch.autograd.gradcheck(loss, inputs, fast_mode=True)


def test_a_shift_is_learned_and_a_new_person_is_told_by_planes_alone() -> None:
    """What is to be found is known: points move by the expression, by as much as the person's size says."""
    torch.manual_seed(0)
    model, field, planes = shifted(), ForwardField(SIZES), TriPlanes(SIZES, 3)
    sizes = torch.tensor([[0.0], [1.0], [0.5]])
    optimizer = torch.optim.Adam([*field.parameters(), *planes.parameters()], 5e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 500)
    for _ in range(500):
        given = Codes(sizes, sizes, 0.5 * torch.randn(3, 5))
        loss = losses(model, field, planes, 0.1 * torch.randn(3, 50, 3), torch.arange(3), given, Weights())["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    x, z = 0.1 * torch.randn(3, 200, 3), 0.5 * torch.randn(3, 5)
    features = planes(x, torch.arange(3))
    wanted = x + 0.01 * ((1 + sizes) * z[:, :3])[:, None]
    far = (wanted - x).norm(dim=2).mean()
    error = cycle_error(model, field, features, x, Codes(sizes, sizes, z))
    torch.testing.assert_close(error, (x + field(x, features, z) - wanted).norm(dim=2).detach(), rtol=1e-3, atol=1e-5)
    assert far > 0.008 and error.mean() < 0.25 * far

    before = [weight.detach().clone() for weight in field.parameters()]
    new, expressions = torch.tensor([0.8]), 0.5 * torch.randn(20, 5)
    own = fit_planes(model, field, x[0], new, expressions, FeatureOptions(steps=150, points=50), seed=0)
    unseen = Codes(new[None], new[None], 0.5 * torch.randn(1, 5))
    there = cycle_error(model, field, own(x[:1], torch.zeros(1, dtype=torch.int64)), x[:1], unseen).mean()
    assert there < 0.3 * 0.01 * (1.8 * unseen.expression[:, :3]).norm()
    assert all(torch.equal(old, weight) for old, weight in zip(before, field.parameters(), strict=True))
