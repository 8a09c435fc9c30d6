"""Motion of a head's surface, against the surface itself."""

from __future__ import annotations

import torch

from avatar_models.headgas.motion import surface_motion
from avatar_models.heads.procedural import procedural_head


def test_points_on_the_surface_go_where_it_goes() -> None:
    head = procedural_head()
    identity = torch.full((head.num_identity,), 0.3)
    condition = torch.zeros(head.num_expression + 9)
    condition[: head.num_expression] = torch.linspace(0.0, 1.0, head.num_expression)
    condition[head.num_expression] = 0.1  # the jaw

    def surface(condition: torch.Tensor) -> torch.Tensor:
        expression, jaw, eyes = condition[None].split([head.num_expression, 3, 6], 1)
        return head.vertices(identity[None], expression, torch.zeros(1, 3), jaw, eyes)[0]

    rest, posed = surface(torch.zeros_like(condition)), surface(condition)
    moved = torch.einsum("e,end->nd", condition, surface_motion(head, identity, rest))
    there = (posed - rest).norm(dim=1)
    assert there.max() > 0.01
    assert (moved - (posed - rest)).norm(dim=1).mean() < 0.1 * there.max()  # neighbours are averaged, the jaw is a turn


def test_far_points_stay() -> None:
    head = procedural_head()
    far = torch.tensor([[0.0, 0.5, 0.0], [0.4, 0.0, 0.0]])
    assert surface_motion(head, torch.zeros(head.num_identity), far).abs().max() < 1e-9
