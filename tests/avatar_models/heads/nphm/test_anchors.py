"""Anchors on a mesh that is symmetric."""

from __future__ import annotations

import pytest
import torch

from avatar_models.heads.nphm.anchors import anchor_vertices
from avatar_models.heads.procedural import procedural_head


def test_anchors_are_pairs_of_both_sides_and_then_the_middle() -> None:
    head = procedural_head()
    template, skin, face = head.rig.template, head.masks["skin"], head.masks["face"]
    chosen = anchor_vertices(template, skin, face, 6, 5)
    places = template[chosen]
    assert len(set(chosen.tolist())) == 17 and bool(skin[chosen].all())
    left, right, middle = places[0:12:2], places[1:12:2], places[12:]
    torch.testing.assert_close(left * torch.tensor([-1.0, 1.0, 1.0]), right, atol=2e-3, rtol=0)
    assert float(left[:, 0].min()) > 0.004 >= float(middle[:, 0].abs().max())


def test_they_stand_closer_on_the_face_than_elsewhere() -> None:
    head = procedural_head()
    template, skin, face = head.rig.template, head.masks["skin"], head.masks["face"]
    chosen = anchor_vertices(template, skin, face, 14, 9)
    apart = torch.cdist(template[chosen], template[chosen]).fill_diagonal_(1.0).amin(1)
    assert float(apart[face[chosen]].mean()) < 0.75 * float(apart[~face[chosen]].mean())


def test_a_mesh_that_is_too_small_is_refused() -> None:
    corners = torch.tensor([[0.1, 0, 0], [-0.1, 0, 0], [0, 0.1, 0]])
    every = torch.ones(3, dtype=torch.bool)
    assert anchor_vertices(corners, every, every, 1, 1).tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="no room for 2 pairs of anchors and 1 in the middle"):
        anchor_vertices(corners, every, every, 2, 1)
