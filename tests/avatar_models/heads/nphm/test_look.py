"""A person's colours and the light, of pixels that were made with known ones."""

from __future__ import annotations

import torch
from torch.nn.functional import normalize

from avatar_models.heads.nphm.look import Look, Samples, fit_look, light_on
from avatar_models.light import harmonics


def test_the_light_is_found_where_the_albedo_is_known() -> None:
    g = torch.Generator().manual_seed(0)
    normals = normalize(torch.randn(2000, 3, generator=g), dim=1)
    albedo = 0.3 + 0.5 * torch.rand(2000, 3, generator=g)
    light = torch.zeros(9, 3)
    light[:4] = torch.tensor([[1.0, 0.9, 0.8], [0.2, 0.1, 0.0], [-0.1, 0.1, 0.3], [0.3, 0.3, 0.3]])
    Y = harmonics(normals)
    found = light_on(Y, albedo, (Y @ light) * albedo)
    assert (found - light).abs().max() < 0.03


def test_a_light_is_even_where_no_pixel_tells_of_it() -> None:
    Y = harmonics(torch.tensor([[0.0, 0.0, 1.0]]))
    found = light_on(Y, torch.full((1, 3), 0.5), torch.full((1, 3), 1.0))  # twice as bright as in an even light of one
    along, across = harmonics(torch.tensor([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])) @ found
    torch.testing.assert_close(along, torch.full((3,), 2.0), rtol=0, atol=0.05)
    assert (across - 1).abs().max() < 0.75 * (along - 1).min()  # nearer to one


def test_a_look_explains_stripes_in_a_light() -> None:
    g = torch.Generator().manual_seed(1)
    places = 0.8 * (torch.rand(6000, 3, generator=g) - 0.5)
    normals = normalize(torch.randn(6000, 3, generator=g), dim=1)
    albedo = torch.stack([0.5 + 0.3 * torch.sin(40 * places[:, 0]), torch.full((6000,), 0.4), 0.5 + places[:, 1]], 1)
    shade = (1 + 0.3 * normals[:, 2:]) * torch.tensor([1.0, 0.9, 0.8])
    samples = Samples(places, normals, shade * albedo)
    look = fit_look(Look.plain(0), samples, 500, 5e-3, 2000, seed=0)
    with torch.no_grad():
        left = samples.color - look.shade(normals) * look.texture(places)
        plain = samples.color - Look.plain(0).texture(places)
    assert left.square().mean() < 0.02 * plain.square().mean()
    turned = look.shade(torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0]])).detach()
    assert 1.5 < float(turned[0, 0] / turned[1, 0]) < 2.2  # 1.3 against 0.7


def test_the_same_seed_gives_the_same_look_and_leaves_torchs_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, second = Look.plain(3), Look.plain(3)
    assert torch.equal(first.texture.net[0].weight, second.texture.net[0].weight)  # type: ignore[arg-type]
    assert torch.equal(torch.rand(1), expected)
