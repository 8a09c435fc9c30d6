"""The fields at rest against plain loops, and what they promise: mirrored pairs, weights of one."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from avatar_models.heads.nphm import Nphm, NphmSizes, medium, published, small
from avatar_models.heads.nphm.ensemble import tile_length, tiles_of
from tests.avatar_models.heads.nphm.tiny import TINY, by_loops, codes, mean_anchors, points, tiny


def test_grouped_mlps_equal_a_loop_over_points_and_regions() -> None:
    model = tiny().double().canonical
    given = codes(2)
    x = 4 * points(2, 30, 5).double()
    geometry, appearance = given.geometry.double(), given.appearance.double()
    sdf, color = model.sdf_and_color(x, geometry, appearance)
    expected = torch.stack(
        [torch.stack([by_loops(model, p, *z) for p in one]) for one, *z in zip(x, geometry, appearance, strict=True)]
    )
    torch.testing.assert_close(torch.cat([sdf[..., None], color], 2), expected, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(model.sdf(x, geometry), sdf, rtol=0, atol=0)


def test_the_mirrored_head_is_the_mirror_image() -> None:
    """With the codes of each pair swapped; what lies in the middle is made to see no side."""
    model = tiny().double().canonical
    with torch.no_grad():
        model.geometry.of_point[TINY.num_pairs :, 0] = 0
        for layer in model.anchor_offsets.parameters():
            layer.zero_()
    geometry = codes(1).geometry.double()
    local = geometry[:, TINY.global_code :].unflatten(1, (-1, TINY.local_code))
    order = [1, 0, 3, 2, *range(4, TINY.num_regions)]
    swapped = torch.cat([geometry[:, : TINY.global_code], local[:, order].flatten(1)], 1)
    x = 4 * points(1, 50, 5).double()
    mirror = torch.tensor([-1.0, 1, 1, 1, 1], dtype=torch.float64)
    torch.testing.assert_close(model.sdf(mirror * x, swapped), model.sdf(x, geometry), rtol=1e-12, atol=1e-12)
    assert (model.sdf(mirror * x, geometry) - model.sdf(x, geometry)).abs().max() > 1e-3


def test_weights_add_up_to_one_and_fall_with_distance() -> None:
    model = tiny().canonical
    x = 4 * points(2, 40)
    found = model.regions(x, model.anchors(codes(2).geometry))
    torch.testing.assert_close(found.weights.sum(2), torch.ones(2, 40), rtol=0, atol=1e-5)
    assert (found.weights[..., :-1].diff(dim=2) <= 0).all() and (found.index[..., -1] == TINY.num_anchors).all()


def test_each_row_finds_its_place_in_a_tile_of_its_mlp() -> None:
    mlp = torch.randint(0, 5, (3000,), generator=torch.Generator().manual_seed(0))
    mlp[mlp == 3] = 2  # one that nobody asks
    tiles = tiles_of(mlp, 5)
    rows = torch.arange(3000)
    assert torch.equal(tiles.in_rows(tiles.sorted(rows)), rows)
    assert torch.equal(tiles.in_rows(tiles.mlp[:, None].expand(tiles.row.shape)), mlp)
    assert tiles.row.numel() - 3000 < 4 * tile_length(3000, 5)


def test_no_points_give_no_distances() -> None:
    assert tiny().canonical.sdf(torch.zeros(2, 0, 5), codes(2).geometry).shape == (2, 0)


def test_sizes_that_do_not_fit_are_refused() -> None:
    for change, message in (
        ({"num_pairs": 4}, "4 pairs do not fit into 7 anchors"),
        ({"neighbors": 9}, r"neighbors \(9\) <= num_anchors \(7\) does not hold"),
        ({"link": 0}, "sizes are too small: link = 0"),
    ):
        with pytest.raises(ValueError, match=message):
            replace(TINY, **change)
    with pytest.raises(ValueError, match=r"mean anchors are \(6, 3\), these sizes have \(7, 3\)"):
        Nphm(TINY, mean_anchors()[:6])


@pytest.mark.parametrize(("sizes", "millions"), [(published(), 11.2), (medium(), 1.9), (small(), 0.2)])
def test_named_sizes(sizes: NphmSizes, millions: float) -> None:
    model = Nphm(sizes, torch.zeros(sizes.num_anchors, 3))
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 1) == millions
