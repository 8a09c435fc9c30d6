"""The procedural head's atlas and paint."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from avatar_models.heads.procedural import procedural_head
from avatar_models.heads.procedural_atlas import head_atlas, head_texels
from avatar_models.heads.procedural_mesh import EAR, EYE_LEFT, EYE_RIGHT, MOUTH, RIM, SKIN, TEETH_LOWER, TEETH_UPPER, head_mesh
from avatar_models.heads.procedural_paint import head_texture
from avatar_models.heads.procedural_skin import Traits, beard_region
from avatar_models.people import make_person

SIDE = 512
PARTS = (SKIN, EYE_LEFT, EYE_RIGHT, MOUTH, TEETH_UPPER, TEETH_LOWER, EAR, RIM)


def areas() -> np.ndarray:
    """Signed area (F,) of the triangles in the texture, in texels."""
    a, b, c = np.moveaxis((head_atlas().places * SIDE)[head_atlas().faces], 1, 0)
    return 0.5 * ((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0])


def test_every_triangle_has_its_own_vertices_and_lies_in_the_texture() -> None:
    atlas, mesh = head_atlas(), head_mesh()
    np.testing.assert_array_equal(atlas.vertex[atlas.faces], mesh.faces)
    assert (atlas.places > 0).all() and (atlas.places < 1).all()
    assert np.ptp(atlas.places[atlas.faces], axis=1).max() < 0.1  # none is drawn across the texture, over the seam


def test_no_two_triangles_share_texels() -> None:
    """As many texels are covered as the triangles' areas add up to; each part covers its own share."""
    texels, mesh = head_texels(SIDE), head_mesh()
    for part in PARTS:
        chosen = mesh.part[mesh.faces[:, 0]] == part
        assert (texels.points.part == part).sum() == pytest.approx(np.abs(areas()[chosen]).sum(), rel=0.03)


def test_a_texel_lies_on_the_head_where_the_texture_is_read() -> None:
    """Positions painted into a texture and read again at the middle of each triangle are those of the mesh."""
    texels, atlas, mesh = head_texels(SIDE), head_atlas(), head_mesh()
    picture = texels.points.position[texels.nearest]
    middle = (atlas.places * SIDE)[atlas.faces].mean(1)
    found = picture[middle[:, 1].astype(int), middle[:, 0].astype(int)]
    wanted = mesh.vertices[mesh.faces].mean(1)
    a, b, c = np.moveaxis(mesh.vertices[mesh.faces], 1, 0)
    area = 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1)
    texel_mm = np.sqrt(area / np.maximum(np.abs(areas()), 0.05))
    away = np.linalg.norm(found - wanted, axis=1)
    assert np.median(away / texel_mm) < 1.0 and np.quantile(away, 0.99) < 4.0


def test_one_palette_is_one_texture_and_a_seed_changes_it() -> None:
    palette = make_person(3).palette
    first = head_texture(palette, SIDE).image
    head_texture.cache_clear()
    np.testing.assert_array_equal(first, head_texture(palette, SIDE).image)
    other = head_texture(replace(palette, seed=palette.seed + 1), SIDE).image
    assert 0.005 < np.abs(first - other).mean() < 0.1
    assert first.min() >= 0 and first.max() <= 1 and not first.flags.writeable


def test_parts_have_their_colours() -> None:
    palette = replace(
        make_person(3).palette, skin=(0.8, 0.6, 0.5), hair=(0.1, 0.08, 0.07), iris=(0.2, 0.4, 0.6), lips=(0.7, 0.35, 0.3)
    )
    points = head_texels(SIDE).points
    color = head_texture(palette, SIDE).image.reshape(-1, 3)[np.unique(head_texels(SIDE).nearest, return_index=True)[1]]
    x, y, z = np.abs(points.position[:, 0]), points.position[:, 1], points.position[:, 2]
    skin = points.part == SKIN

    def mean(chosen: np.ndarray) -> np.ndarray:
        assert chosen.sum() > 20
        return np.asarray(color[chosen].mean(0))

    np.testing.assert_allclose(mean(skin & (z > 20) & (x < 25) & (y > 55) & (y < 75)), palette.skin, atol=0.12)
    lips = mean(skin & (z > 40) & (x < 12) & (y < -44) & (y > -48))
    assert lips[0] - lips[1] > 0.2
    assert mean(skin & (z < -90) & (y > 30)).max() < 0.2  # hair
    assert mean(skin & (x > 20) & (x < 40) & (np.abs(y - 41) < 2) & (z > 0)).max() < 0.4  # brows
    assert mean((points.part == TEETH_UPPER) & (x < 6) & (points.place[:, 1] < 0.4)).min() > 0.5
    for eye in (EYE_LEFT, EYE_RIGHT):
        ball, angle = points.part == eye, np.degrees(points.place[:, 0])
        iris = mean(ball & (angle > 14) & (angle < 22))
        assert mean(ball & (angle < 8)).max() < 0.06 and iris[2] > 1.3 * iris[0]
        assert mean(ball & (angle > 33) & (angle < 40) & (y < 22)).min() > 0.7


def test_stubble_grows_round_the_mouth_and_on_the_jaw_only() -> None:
    points = np.array(
        [[0, -80.0, 45], [10, -33, 50], [45, -60, 10], [0, 60, 48], [35, 0, 38], [0, -46, 57], [0, -41, 55], [0, -150, 0]]
    )
    assert (beard_region(points) > 0.5).tolist() == [True, True, True, False, False, False, False, False]
    strengths = [Traits.of(make_person(seed).palette).beard for seed in range(40)]
    assert 8 < sum(strength == 0 for strength in strengths) < 32 and max(strengths) > 0.4


def test_the_rims_of_the_eyes_follow_the_balls_of_anybody() -> None:
    """No identity but the eyes' size moves a rim against its ball: a gap would show the inside of the head."""
    head, mesh = procedural_head(), head_mesh()
    for name, mode in zip(head.identity_names, head.rig.identity_basis.numpy(), strict=True):
        for sign, eye in ((1, EYE_LEFT), (-1, EYE_RIGHT)):
            rim = (mesh.part == RIM) & (sign * mesh.vertices[:, 0] > 0)
            away = np.abs(mode[rim] - mode[mesh.part == eye].mean(0)).max()
            assert away < (0.002 if name == "eyeSize" else 1e-6)
