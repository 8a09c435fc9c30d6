"""What a photo says of vertices: colours where they are seen, judged by a photo whose colours say where a pixel is."""

from __future__ import annotations

from dataclasses import replace

import torch

from avatar_models.cameras import project
from avatar_models.gagavatar.photo_colors import Photos, on_plane, on_vertices
from tests.avatar_models.gagavatar.tiny import SIDE, cameras


def colored_by_place(side: int) -> torch.Tensor:
    """A photo (1, 3, side, side) whose red is x and whose green is y, in shares of the picture at pixel centres."""
    centres = (torch.arange(side) + 0.5) / side
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    return torch.stack([x, y, 0.3 * torch.ones_like(x)])[None]


def test_a_plane_takes_the_photos_colours_from_where_its_points_are_seen() -> None:
    size, side = 5, 32
    found = on_plane(colored_by_place(side), size)[0]
    along = torch.linspace(0, 1, size).clamp(0.5 / side, 1 - 0.5 / side)  # beyond the outermost centres colours stay
    torch.testing.assert_close(found[0], along.expand(size, size))
    torch.testing.assert_close(found[1], along[:, None].expand(size, size))
    torch.testing.assert_close(found[2], torch.full((size, size), 0.3))


def test_a_seen_vertex_has_the_colour_of_its_pixel_at_whatever_size_the_photo_is() -> None:
    vertices = torch.tensor([[[0.0, 0.0, 0.1], [0.05, 0.04, 0.1], [-0.06, 0.02, 0.08]]])
    for side in (SIDE, 2 * SIDE):
        found = on_vertices(Photos(colored_by_place(side), cameras(1), vertices))
        assert found.seen.tolist() == [[1, 1, 1]]
        torch.testing.assert_close(found.colors[..., :2], project(vertices, cameras(1)) / SIDE, atol=1e-5, rtol=0)


def test_what_lies_behind_or_beside_the_photo_is_hidden_and_has_the_mean_colour() -> None:
    camera = cameras(1)
    away = camera.viewmat[0, :3, :3].T @ torch.tensor([0.0, 0.0, 1.0])  # along the axis, from the camera
    front = torch.tensor([0.02, 0.01, 0.05])
    o = -camera.viewmat[0, :3, :3].T @ camera.viewmat[0, :3, 3]
    ray = torch.nn.functional.normalize(front - o, dim=0)
    vertices = torch.stack([front, front + 0.1 * ray, front + 0.01 * ray, torch.tensor([5.0, 0.0, 0.0]) - 0.5 * away])
    found = on_vertices(Photos(colored_by_place(SIDE), camera, vertices[None]))
    assert found.seen.tolist() == [[1, 0, 1, 0]]  # a centimetre behind is the same surface
    for hidden in (1, 3):
        torch.testing.assert_close(found.colors[0, hidden], found.colors[0, [0, 2]].mean(0))


def test_each_photo_is_looked_at_alone() -> None:
    g = torch.Generator().manual_seed(0)
    photos = Photos(torch.rand(2, 3, SIDE, SIDE, generator=g), cameras(2), 0.07 * torch.randn(2, 20, 3, generator=g))
    together = on_vertices(photos)
    for one in range(2):
        alone = Photos(photos.pictures[one : one + 1], photos.cameras[one : one + 1], photos.vertices[one : one + 1])
        torch.testing.assert_close(on_vertices(alone).colors[0], together.colors[one])
    none = on_vertices(replace(photos, vertices=photos.vertices + 9.0))
    assert not none.seen.any() and not none.colors.isnan().any()
