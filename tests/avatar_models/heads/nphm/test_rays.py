"""Where rays meet a stone whose distances are known everywhere."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from avatar_models.heads.nphm import Codes, Nphm
from avatar_models.heads.nphm.rays import ON, Rays, deepest, in_ball, trace
from tests.avatar_models.heads.nphm.faceted import faceted, stone_codes


def seen_from(count: int, aim: float) -> Rays:
    """Two cameras half a metre away, and rays to anywhere within `aim` metres of the head's origin."""
    g = torch.Generator().manual_seed(4)
    origin = torch.tensor([[0.1, 0.05, 0.5], [-0.3, 0.0, 0.4]])
    targets = aim * (2 * torch.rand(2, count, 3, generator=g) - 1)
    return Rays(origin, normalize(targets - origin[:, None], dim=2))


def two_stones() -> tuple[Nphm, Codes]:
    given = stone_codes(2)
    return faceted(), Codes(given.geometry[:1].expand(2, -1), given.appearance[:1].expand(2, -1), 0.5 * given.expression)


def along(model: Nphm, codes: Codes, rays: Rays, places: int) -> tuple[Tensor, Tensor]:
    """Many places on each ray, (2, R, P), and their distances."""
    near, far = in_ball(rays)
    t = near[..., None] + (far - near)[..., None] * torch.linspace(0, 1, places)
    x = rays.origin[:, None, None] + t[..., None] * rays.direction[:, :, None]
    with torch.no_grad():
        return t, model.sdf(x.flatten(1, 2), codes).view(t.shape)


def test_rays_stop_at_the_first_place_of_the_surface() -> None:
    model, codes = two_stones()
    rays = seen_from(150, 0.12)
    found, (t, sdf) = trace(model, codes, rays), along(model, codes, rays, 400)
    inside = (sdf < 0).any(2)
    assert int(((sdf < -ON).any(2) & ~found.hit).sum()) <= 3  # who goes in has stopped, but for some that graze it for long
    assert int((found.hit & inside).sum()) > 150 and int((~found.hit).sum()) > 30
    with torch.no_grad():
        assert model.sdf(rays.at(found.t), codes)[found.hit].abs().max() < 1.01 * ON
    first = torch.where(sdf < 0, t, torch.inf).amin(2)
    both = found.hit & inside
    apart = (found.t - first)[both].abs()  # places are 0.9 mm apart, and grazing rays cross slowly
    assert apart.quantile(0.9) < 1.5e-3 and apart.max() < 8e-3


def test_rays_that_pass_by_are_where_they_come_nearest() -> None:
    model, codes = two_stones()
    rays = seen_from(100, 0.17)
    _, sdf = along(model, codes, rays, 400)
    near, far = in_ball(rays)
    crosses = near < far
    place = deepest(model, codes, rays)
    with torch.no_grad():
        least = model.sdf(rays.at(place), codes)
    assert bool((least[crosses] < sdf.amin(2)[crosses] + 4e-3).all())
    assert bool((least[(sdf < -3e-3).any(2)] < 0).all())  # 3 mm deep is seen


def test_rays_beside_the_ball_meet_nothing() -> None:
    model, codes = two_stones()
    rays = Rays(torch.tensor([[0.0, 0.3, 1.0]] * 2), torch.tensor([0.0, 0.0, -1.0]).expand(2, 1, 3))
    assert not trace(model, codes, rays).hit.any()
    near, far = in_ball(rays)
    torch.testing.assert_close(near, far)
