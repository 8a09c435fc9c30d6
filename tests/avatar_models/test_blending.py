"""The basis' optimiser against torch's Adam on the gradient written down."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from avatar_models.blending import RankOneAdam, blend

E, M = 7, 5000


def start() -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    return torch.randn(E, M, generator=g), torch.randn(6, E, generator=g)


@pytest.mark.parametrize(("blends_a_step", "decay"), [(1, 0.0), (3, 0.0), (1, 2.0)])
def test_steps_are_those_of_torchs_adam(blends_a_step: int, decay: float) -> None:
    F, conditions = start()
    exact = F.double().requires_grad_()
    theirs = torch.optim.AdamW([exact], lr=0.01, eps=1e-15, weight_decay=decay)
    ours = RankOneAdam(F.clone().requires_grad_(), 0.01, decay=decay)
    for step in range(0, 6, blends_a_step):
        used = conditions[step : step + blends_a_step]
        theirs.zero_grad()
        sum(torch.sin(blend(e.double(), exact)).sum() for e in used).backward()  # type: ignore[union-attr]
        sum(torch.sin(ours.blend(e, ours.F)).sum() for e in used).backward()  # type: ignore[union-attr]
        theirs.step()
        ours.step()
    assert ours.F.grad is None
    assert (ours.F.detach().double() - exact.detach()).norm() < 1e-6 * (exact.detach() - F).norm() + 1e-6 * exact.norm()


def test_the_condition_gets_its_gradient() -> None:
    F, conditions = start()
    basis = RankOneAdam(F.requires_grad_(), 0.01)
    found, wanted = conditions[0].clone().requires_grad_(), conditions[0].double().requires_grad_()
    basis.blend(found, F).square().sum().backward()
    blend(wanted, F.detach().double()).square().sum().backward()
    assert torch.allclose(found.grad.double(), wanted.grad, rtol=1e-4)  # type: ignore[union-attr, arg-type]


def test_it_goes_on_where_it_was_saved() -> None:
    F, conditions = start()

    def run(basis: RankOneAdam, steps: range) -> None:
        for step in steps:
            basis.blend(conditions[step], basis.F).square().mean().backward()
            basis.step()

    through = RankOneAdam(F.clone().requires_grad_(), 0.01)
    run(through, range(6))
    first = RankOneAdam(F.clone().requires_grad_(), 0.01)
    run(first, range(3))
    second = RankOneAdam(first.F.detach().clone().requires_grad_(), 0.01)
    second.load_state_dict(first.state_dict())
    run(second, range(3, 6))
    assert torch.equal(through.F, second.F)


@pytest.mark.parametrize("columns", [M, 40_000])
def test_a_blend_that_was_announced_is_the_same_to_the_bit(columns: int) -> None:
    g = torch.Generator().manual_seed(1)
    F, conditions = torch.randn(E, columns, generator=g), torch.randn(6, E, generator=g)
    plain, announced = RankOneAdam(F.clone().requires_grad_(), 0.01), RankOneAdam(F.clone().requires_grad_(), 0.01)
    for now, then in pairwise(conditions):
        for basis, ahead in ((plain, None), (announced, then)):
            basis.blend(now, basis.F).square().mean().backward()
            basis.step(ahead)
    assert torch.equal(plain.F, announced.F)
    assert torch.equal(plain.blend(conditions[-1], plain.F), announced.blend(conditions[-1], announced.F))


@pytest.mark.parametrize("change", ["another condition", "another basis"])
def test_a_blend_that_was_announced_for_something_else_is_not_used(change: str) -> None:
    F, conditions = start()
    basis = RankOneAdam(F.requires_grad_(), 0.01)
    basis.blend(conditions[0], F).square().mean().backward()
    basis.step(ahead=conditions[1])
    if change == "another basis":
        with torch.no_grad():
            F.mul_(2)
    wanted = conditions[1 if change == "another basis" else 2]
    assert torch.allclose(basis.blend(wanted, F), wanted @ F, atol=1e-5)


def test_a_gradient_by_a_basis_that_has_moved_on_is_refused() -> None:
    F, conditions = start()
    basis = RankOneAdam(F.requires_grad_(), 0.01)
    late = conditions[1].clone().requires_grad_()
    basis.blend(conditions[0], F).square().mean().backward()
    loss = basis.blend(late, F).sum()
    basis.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("length", [0, 3, 9])
def test_a_condition_of_another_length_is_refused(length: int) -> None:
    F, _ = start()
    with pytest.raises(ValueError, match=rf"e must be \(7,\) .* is \({length},\)"):
        RankOneAdam(F, 0.01).blend(torch.ones(length), F)


def test_another_basis_is_refused() -> None:
    F, conditions = start()
    with pytest.raises(ValueError, match="its own basis"):
        RankOneAdam(F, 0.01).blend(conditions[0], F.clone())
