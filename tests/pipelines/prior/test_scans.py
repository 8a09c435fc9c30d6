"""Points of registered scans lie where their head model has them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from avatar_models.heads.skinning import pose
from pipelines.prior.scans import AROUND_M, LinearModel, LinearScans, draw, expressions_of, in_ball, joined
from pipelines.prior.setup import linear_model


@pytest.fixture(scope="module")
def model() -> LinearModel:
    return linear_model("procedural", "")


@pytest.fixture(scope="module")
def scans(model: LinearModel) -> LinearScans:
    identities = torch.from_numpy(np.random.default_rng(1).normal(size=(3, len(model.rig.identity_basis)))).float()
    return LinearScans(model, identities, expressions_of(model, 4, np.random.default_rng(2)), torch.tensor([5, 80, 200]))


def test_expressions_are_neutral_each_alone_jaws_and_mixtures(model: LinearModel) -> None:
    count = len(model.rig.expression_basis)
    found = expressions_of(model, 4, np.random.default_rng(2))
    assert len(found) == 1 + count + 3 + 4
    assert not found.coefficients[0].any() and not found.jaw[0].any()
    assert torch.equal(found.coefficients[1 : 1 + count], torch.eye(count))
    torch.testing.assert_close(found.jaw[1 + count : 4 + count, 0], torch.tensor([0.1, 0.2, 0.3]))
    mixed = found.coefficients[-4:]
    assert bool(((mixed > 0).sum(1) >= 2).all()) and float(mixed.min()) >= 0 and float(mixed.max()) <= 1


def test_points_lie_on_the_posed_mesh_and_their_normals_are_the_triangles(scans: LinearScans, model: LinearModel) -> None:
    surface, normals, rest = scans.on_surface(1, 7, 300, np.random.default_rng(3))
    person, expressions = scans.people[1], scans.expressions
    whole = model.rig.of(torch.zeros(len(model.rig.identity_basis)))  # another person's mesh, which they do not lie on
    coefficients, jaw = expressions.coefficients[7:8], expressions.jaw[7:8]
    for rig, near in ((person, True), (whole, False)):
        posed = pose(rig, torch.zeros(1, 0), coefficients, torch.zeros(1, 3), jaw, torch.zeros(1, 6))[0]
        corners = posed[scans.faces]
        cross = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        of_faces = torch.nn.functional.normalize(cross, dim=1)
        heights = ((surface[:, None] - corners[None, :, 0]) * of_faces).sum(2).abs()  # above each triangle's plane
        same = (normals[:, None] * of_faces).sum(2) > 1 - 1e-4
        touched = torch.where(same, heights, torch.inf).amin(1)
        assert bool((touched < 1e-6).all()) is near
    neutral, _, at_rest = scans.on_surface(1, 0, 300, np.random.default_rng(3))
    torch.testing.assert_close(neutral, at_rest)
    torch.testing.assert_close(rest, at_rest)  # the same random numbers choose the same places


def test_most_points_are_on_the_front_of_the_face(scans: LinearScans, model: LinearModel) -> None:
    rest = scans.on_surface(0, 0, 2000, np.random.default_rng(4))[2]
    low, high = model.rig.template[model.face].amin(0) - 0.01, model.rig.template[model.face].amax(0) + 0.01
    assert float(((rest > low) & (rest < high)).all(1).float().mean()) > 0.7


def test_a_batch_joins_scans_and_knows_who_is_neutral(scans: LinearScans) -> None:
    random = np.random.default_rng(5)
    batch = joined([draw(scans, person, expression, 10, 4, random) for person, expression in ((0, 0), (2, 3))])
    assert batch.surface.shape == (2, 10, 3) and batch.around.shape == (2, 4, 3) and batch.neutral.tolist() == [True, False]
    torch.testing.assert_close(batch.anchors[1], scans.people[2].template[torch.tensor([5, 80, 200])])


def test_points_around_fill_the_ball_evenly() -> None:
    radius = in_ball(20000, np.random.default_rng(6)).norm(dim=1) / AROUND_M
    assert float(radius.max()) <= 1
    for share in (0.2, 0.5, 0.9):  # the volume within a share of the radius is its cube
        assert float((radius < share).float().mean()) == pytest.approx(share**3, abs=0.01)
