"""The detector's points on a head are found by asking the detector."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from avatar_models.heads.procedural import procedural_head
from avatar_models.heads.skinning import Rig
from avatar_models.tracking.embedding import embed
from avatar_models.tracking.quality import INNER, IRISES


def test_a_head_without_any_hand_made_list_gets_its_points() -> None:
    """A hundred plainly painted pictures come near to the asset, which was made of twelve hundred painted ones."""
    head = procedural_head()
    found, report = embed(head.rig, head.faces, head.masks, True, pictures=100)
    template = head.rig.template[None]
    places = [e.points(template, head.faces)[0] + e.offsets for e in (found, head.embedding)]
    away = 1e3 * (places[0] - places[1]).norm(dim=1).numpy()
    assert np.median(away[INNER]) < 3.0, np.median(away[INNER])
    assert report.found > 0.9 and report.after < report.before < 0.08 and report.surface_mm < 0.5
    assert len(report.lines()) == 4
    eyes = head.masks["eyes_left"] | head.masks["eyes_right"]
    assert eyes[head.faces[found.faces[IRISES]]].all() and not eyes[head.faces[found.faces[: IRISES[0]]]].any()


def test_what_does_not_look_like_a_head_is_told() -> None:
    flat = torch.zeros(4, 3)
    flat[:, :2] = torch.tensor([[-0.1, -0.1], [0.1, -0.1], [0.1, 0.1], [-0.1, 0.1]])
    nothing = torch.zeros(1, 4, 3)
    weights = torch.zeros(4, 5)
    weights[:, 1] = 1.0
    rig = Rig(flat, nothing, nothing, torch.zeros(5, 3), torch.zeros(1, 5, 3), weights)
    masks = {"skin": torch.ones(4, dtype=torch.bool), "eyes_left": torch.tensor([True, False, False, False])}
    masks["eyes_right"] = torch.tensor([False, True, False, False])
    with pytest.raises(ValueError, match=r"the detector found the face in 0 of 300 pictures"):
        embed(rig, torch.tensor([[0, 1, 2], [0, 2, 3]]), masks, True, pictures=10)
