"""Performances of clips that were fitted together, and the clouds of points that are made of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from avatar_models.heads.procedural import procedural_head
from avatar_models.people import posed_vertices
from pipelines.nphm_tracks.performances import Performance, performances_of
from pipelines.nphm_tracks.surfaces import clouds_of
from pipelines.nphm_tracks.views import clouds_of_views
from pipelines.subject import Tables, read_tables
from tests.pipelines.nphm_tracks.project import CLIPS, PERFORMANCE, PERSON, STEPS, SUBJECT, make_project


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    return read_tables(make_project(tmp_path_factory.mktemp("project")))


@pytest.fixture(scope="module")
def performance(data: Tables) -> Performance:
    (found,) = performances_of(data, SUBJECT)
    return found


def off(points: torch.Tensor, step: int) -> np.ndarray:
    """Distances of points (N, 3) to the nearest of many points of the true mesh."""
    vertices, faces = posed_vertices(PERSON, PERFORMANCE, step), procedural_head().faces.numpy()
    weights = np.random.default_rng(0).dirichlet(np.ones(3), (len(faces), 12))
    on_mesh = np.einsum("fkc,fcx->fkx", weights, vertices[faces]).reshape(-1, 3)
    return cKDTree(np.concatenate([vertices, on_mesh])).query(points.numpy())[0]


def test_cameras_that_were_fitted_together_share_steps(performance: Performance) -> None:
    assert len(performance) == STEPS and list(performance.clips) == list(CLIPS)
    assert performance.steps[CLIPS[2]].tolist() == [1, 2]  # it came late
    assert performance.seen_at(0) == [(CLIPS[0], 0), (CLIPS[1], 0)]
    assert performance.seen_at(2) == [(CLIPS[0], 2), (CLIPS[1], 2), (CLIPS[2], 1)]
    np.testing.assert_allclose(performance.expression, PERFORMANCE.expression)
    np.testing.assert_allclose(performance.vertices(procedural_head(), 1), posed_vertices(PERSON, PERFORMANCE, 1), atol=1e-6)


def test_a_plane_sweep_finds_the_surface(data: Tables, performance: Performance) -> None:
    points, normals = clouds_of_views(data.head(), performance, data.frames, set())
    assert len(points) == STEPS and normals is None
    for step in range(STEPS):
        error = off(points[step], step)
        assert len(error) > 500 and np.median(error) < 0.0015 and np.mean(error < 0.005) > 0.9


def test_a_head_that_is_off_is_put_right_by_the_views(data: Tables, performance: Performance) -> None:
    """The linear head only says where to look: what is found is the true surface."""
    other = replace(performance, identity=-performance.identity)
    from_head, _ = clouds_of(data.head(), other, 0)
    from_views, _ = clouds_of_views(data.head(), other, data.frames, set())
    assert np.median(off(from_views[1], 1)) < 0.5 * np.median(off(from_head[1], 1))


def test_a_held_out_camera_is_not_looked_at_where_two_others_are(data: Tables, performance: Performance) -> None:
    asked: list[str] = []

    class Frames:
        def decode(self, clip: str, row: int) -> object:
            asked.append(clip)
            return data.frames.decode(clip, row)

    first, second, third = performance.clips  # the third one missed the first step
    clouds_of_views(data.head(), performance, Frames(), {first})  # type: ignore[arg-type]
    assert asked == [first, second, *[second, third] * (STEPS - 1)]
    asked.clear()
    clouds_of_views(data.head(), performance, Frames(), {first, second, third})  # type: ignore[arg-type]
    assert asked == [first, second, *[first, second, third] * (STEPS - 1)]
