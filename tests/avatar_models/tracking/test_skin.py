"""The points of the face: spread, normals and what hides them, against the mesh and its z-buffer."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from avatar_models.heads.procedural import procedural_head
from avatar_models.mesh_render import rasterise, vertex_normals
from avatar_models.people import camera_for, make_person, perform, posed_vertices, viewmats
from avatar_models.tracking.skin import POINTS, skin_of, view_of

SIZE, FRAMES = 256, 6
SKIN = skin_of(procedural_head())


@pytest.fixture(scope="module")
def seen() -> tuple:  # type: ignore[type-arg]
    person, performance = make_person(5), perform(5, FRAMES, 2.0)
    K, distance = camera_for(SIZE)
    views = viewmats(performance, distance)
    vertices = [posed_vertices(person, performance, n) for n in range(FRAMES)]
    view = view_of(
        SKIN, person.identity.astype(float), performance.expression.astype(float), performance.jaw.astype(float),
        performance.eyes.astype(float), views, np.tile(K, (FRAMES, 1, 1)), (SIZE, SIZE),
    )  # fmt: skip
    return vertices, views, K, view


def test_points_are_spread_over_the_face() -> None:
    assert 0.85 * POINTS < len(SKIN.vertices) <= POINTS
    points = procedural_head().rig.template[torch.from_numpy(SKIN.vertices)].numpy()
    assert points[:, 2].min() > -0.03  # none at the back of the head
    assert np.ptp(points[:, 0]) > 0.1
    assert np.ptp(points[:, 1]) > 0.12


def test_normals_are_the_meshs_in_the_cameras_frame(seen: tuple) -> None:  # type: ignore[type-arg]
    vertices, views, _, view = seen
    for n in range(FRAMES):
        wanted = vertex_normals(vertices[n], procedural_head().faces.numpy())[SKIN.vertices] @ views[n, :3, :3].T
        assert np.abs(view.normals[n] - wanted).max() < 1e-3


def test_points_that_the_z_buffer_hides_are_hidden_and_others_are_seen(seen: tuple) -> None:  # type: ignore[type-arg]
    vertices, views, K, view = seen
    faces = procedural_head().faces.numpy()
    hidden, wrongly_seen, wrongly_hidden, frontal = 0, 0, 0, 0
    for n in range(FRAMES):
        surface = rasterise(vertices[n], faces, K, views[n], SIZE, SIZE)
        x = vertices[n] @ views[n, :3, :3].T + views[n, :3, 3]
        front = np.einsum("hwk,hwk->hw", surface.barycentric, x[faces[surface.triangle], 2])
        points = x[SKIN.vertices]
        column, row = (points @ K.T)[:, :2].T / points[:, 2]
        behind = points[:, 2] - front[row.astype(int), column.astype(int)]
        facing = -(view.normals[n] * points).sum(1) / np.linalg.norm(points, axis=1)
        deep, clear = behind > 0.012, (behind < 0.001) & (facing > 0.6)
        hidden += deep.sum()
        frontal += clear.sum()
        wrongly_seen += (view.visible[n][deep] > 0).sum()
        wrongly_hidden += (view.visible[n][clear] < 1).sum()
    assert hidden > 20
    assert wrongly_seen < 0.15 * hidden
    assert wrongly_hidden < 0.05 * frontal
