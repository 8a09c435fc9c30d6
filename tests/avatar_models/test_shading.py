"""Lighting a picture pixel by pixel is multiplying and adding; lit vertex colours agree with it."""

from __future__ import annotations

import numpy as np

from avatar_models.shading import light, light_up, shaded


def test_a_picture_is_lit_where_there_is_a_surface() -> None:
    rng = np.random.default_rng(0)
    picture, background = (rng.uniform(size=(4, 5, 3)).astype(np.float32) for _ in range(2))
    shade = rng.uniform(size=(4, 5, 2)).astype(np.float32)
    triangle = rng.integers(-1, 2, (4, 5)).astype(np.int32)
    wanted = np.where(triangle[..., None] >= 0, picture * shade[..., :1] + shade[..., 1:], background)
    light_up(picture, triangle, shade, background)
    np.testing.assert_allclose(picture, wanted, atol=1e-6)


def test_what_faces_the_light_is_brighter_and_what_is_wet_shines() -> None:
    vertices = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 0], [0, 1, 0], [1, 0, 0]])
    faces = np.array([[0, 1, 2], [3, 4, 5]])  # towards the camera, and away from it
    view = np.diag([1.0, -1.0, -1.0, 1.0])
    dry, wet = light(vertices, faces, view), light(vertices, faces, view, np.ones(6, bool))
    assert (dry[:3, 0] > dry[3:, 0] + 0.2).all() and (dry[3:, 1] == 0).all()
    assert (wet[:, 0] == dry[:, 0]).all() and (wet[:3, 1] != dry[:3, 1]).all()
    color = np.full((6, 3), 0.5, np.float32)
    np.testing.assert_allclose(shaded(vertices, faces, view, color), 0.5 * dry[:, :1] + dry[:, 1:] + 0 * color, atol=1e-6)
