"""The detector's points on a head are found by asking the detector."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from avatar_models.heads.procedural import procedural_head
from avatar_models.heads.skinning import Rig
from avatar_models.tracking.embedding import KnownPlaces, embed
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


def test_known_places_stay_and_how_they_slide_is_measured() -> None:
    """Given the asset's own places with their offsets laid on the surface, the rest comes out as without them."""
    head = procedural_head()
    points = np.setdiff1d(INNER, IRISES)[::4]
    own = head.embedding
    known = KnownPlaces(points, own.faces[points].numpy(), own.barycentric[points].double().numpy())
    found, report = embed(head.rig, head.faces, head.masks, True, known=known, pictures=60)
    assert torch.equal(found.faces[points], own.faces[points])
    torch.testing.assert_close(found.barycentric[points], own.barycentric[points])
    assert (found.offsets[points] == 0).all() and (found.offsets[np.setdiff1d(INNER, points)] != 0).any(-1).all()
    assert 1e3 * found.slides[:, points].norm(dim=-1).median() > 0.2
    assert report.lines()[0].startswith(f"{len(points)} points lie where the embedding beside the model says")
    assert len(report.lines()) == 5 and report.after < report.before


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
