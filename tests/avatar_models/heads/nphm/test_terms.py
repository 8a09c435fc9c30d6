"""The energy that steps make small, against its formula and autograd in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from avatar_models.heads.nphm.terms import Term, Terms, joined, mean_of


def some(frames: int = 2, clamp: float = 0.5) -> tuple[Terms, Tensor]:
    """Terms whose residuals are linear in a step, and a step."""
    g = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    parts = (
        Term(random(frames, 5), random(frames, 5, 9), random(frames, 5).abs(), clamp),
        Term(random(frames, 2), random(frames, 2, 9), random(frames, 2).abs()),
    )
    return Terms(parts, random(frames, 3), 0.3), random(frames, 9)


def test_the_slope_is_autograds() -> None:
    terms, still = some()

    def energy(step: Tensor) -> Tensor:
        total = 0.3 * (terms.z + step[:, :3]).square().sum()
        for part in terms.parts:
            r = part.residuals + (part.jacobian @ step[..., None])[..., 0]
            total = total + (part.cost * r.square() / (1 + r.square() / part.clamp**2)).sum()
        return total

    still = torch.zeros_like(still)
    torch.testing.assert_close(terms.energy().sum(), energy(still))
    H, b = terms.normal_equations()
    torch.testing.assert_close(2 * b, torch.autograd.functional.jacobian(energy, still))
    assert bool((torch.linalg.eigvalsh(H) > 0).all())


def test_a_wider_clamp_lets_residuals_pull_more() -> None:
    terms, _ = some(clamp=0.1)
    energies = [float(terms.wider(width).energy().sum()) for width in (1, 3, 1e6)]
    assert energies[0] < energies[1] < energies[2]
    squares = sum(float((part.cost * part.residuals.square()).sum()) for part in terms.parts)
    assert energies[2] == pytest.approx(squares + 0.3 * float(terms.z.square().sum()), rel=1e-6)


def test_frames_are_taken_and_put_together() -> None:
    first, other = some()[0], some(clamp=0.5)[0]
    other = Terms(tuple(Term(-part.residuals, part.jacobian, part.cost, part.clamp) for part in other.parts), -other.z, 0.3)
    mixed = first.chosen(torch.tensor([True, False]), other)
    assert torch.equal(mixed.z, torch.stack([first.z[0], other.z[1]]))
    assert torch.equal(mixed.parts[1].residuals, torch.stack([first.parts[1].residuals[0], other.parts[1].residuals[1]]))
    torch.testing.assert_close(joined([first, other]).energy(), torch.cat([first.energy(), other.energy()]))


def test_what_is_lost_costs_what_a_large_residual_does() -> None:
    large, none = torch.tensor([[1e4]]), torch.zeros(1, 1, 1)
    there = Term(large, none, torch.full((1, 1), 3.0), clamp=0.5)
    lost = Term(large, none, torch.zeros(1, 1), 0.5, torch.tensor([3.0]))
    torch.testing.assert_close(lost.energy(), there.energy())
    torch.testing.assert_close(lost.wider(2.0).energy(), there.wider(2.0).energy())
    both = joined([Terms((lost,), torch.zeros(1, 1), 0.0)] * 2)
    torch.testing.assert_close(both.chosen(torch.tensor([True, False]), both).energy(), there.energy().expand(2))


def test_costs_are_shared() -> None:
    assert mean_of(torch.zeros(2, 3), 6.0).tolist() == [[2.0] * 3] * 2 and mean_of(torch.zeros(1, 0), 1.0).numel() == 0
    assert math.isinf(some()[0].parts[1].clamp)
