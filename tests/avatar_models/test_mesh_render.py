"""The rasteriser against a ray cast at every pixel."""

from __future__ import annotations

import numpy as np

from avatar_models.mesh_render import Surface, Texture, rasterise, vertex_normals

K = np.array([[60.0, 0, 20], [0, 60, 15], [0, 0, 1]])
WIDTH, HEIGHT = 40, 30


def cast(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nearest triangle and its weights by solving p = u a + v b + w c along each pixel's ray."""
    triangle, weights = np.full((HEIGHT, WIDTH), -1), np.zeros((HEIGHT, WIDTH, 3))
    for y in range(HEIGHT):
        for x in range(WIDTH):
            ray = np.linalg.solve(K, [x + 0.5, y + 0.5, 1.0])
            nearest = np.inf
            for f, face in enumerate(faces):
                solved = np.linalg.solve(vertices[face].T, ray)
                depth = 1.0 / solved.sum()
                if (solved >= 0).all() and depth < nearest:
                    nearest, triangle[y, x], weights[y, x] = depth, f, solved * depth
    return triangle, weights


def test_every_pixel_is_that_of_a_ray_cast() -> None:
    rng = np.random.default_rng(0)
    vertices = np.concatenate([rng.uniform(-0.4, 0.4, (18, 2)), rng.uniform(1.0, 2.0, (18, 1))], 1)
    faces = np.arange(18).reshape(6, 3)
    surface = rasterise(vertices, faces, K, np.eye(4), WIDTH, HEIGHT)
    triangle, weights = cast(vertices, faces)
    assert (triangle >= 0).sum() > 100
    np.testing.assert_array_equal(surface.triangle, triangle)
    np.testing.assert_allclose(surface.barycentric, weights, atol=1e-5)
    values = rng.uniform(size=(18, 5)).astype(np.float32)
    expected = np.einsum("hwk,hwkc->hwc", weights, values[faces[triangle]]) * (triangle >= 0)[..., None]
    np.testing.assert_allclose(surface.interpolate(faces, values), expected, atol=1e-5)


def test_a_texture_is_read_bilinearly_where_the_triangles_lie_in_it() -> None:
    rng = np.random.default_rng(1)
    image = rng.uniform(size=(9, 12, 3)).astype(np.float32)
    places = rng.uniform([1, 1], [11, 8], (6, 2)).astype(np.float32)
    texture = Texture(image, places, np.array([[0, 1, 2], [3, 4, 5]]))
    triangle = rng.integers(-1, 3, (5, 7)).astype(np.int32)  # 2 has no place in the texture
    weights = rng.dirichlet(np.ones(3), (5, 7)).astype(np.float32)
    found = Surface(triangle, weights).sample(texture)
    for at in np.ndindex(5, 7):
        if triangle[at] not in (0, 1):
            assert (found[at] == 0).all()
            continue
        x, y = weights[at] @ places[texture.faces[triangle[at]]] - 0.5
        near = [
            (max(0, 1 - abs(x - column)) * max(0, 1 - abs(y - row))) * image[row, column]
            for row in range(9) for column in range(12)
        ]  # fmt: skip
        np.testing.assert_allclose(found[at], np.sum(near, 0), atol=1e-5)


def test_triangles_behind_the_camera_are_left_out() -> None:
    vertices = np.array([[-1.0, -1, -1], [1, -1, -1], [0, 1, -1]])
    assert (rasterise(vertices, np.array([[0, 1, 2]]), K, np.eye(4), WIDTH, HEIGHT).triangle == -1).all()


def test_normals_point_outward() -> None:
    corners = np.array([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]])
    octants = [(a, b, c) for a in (0, 1) for b in (2, 3) for c in (4, 5)]
    faces = np.array([(a, b, c) if (a + b + c) % 2 == 0 else (a, c, b) for a, b, c in octants])
    np.testing.assert_allclose(vertex_normals(corners, faces), corners, atol=1e-6)
