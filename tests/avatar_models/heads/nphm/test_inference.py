"""The CPU's kernel against the tensors' way in float64."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from avatar_models.heads.nphm import NphmSizes
from avatar_models.heads.nphm.inference import close_together
from avatar_models.kernels import nphm as fused
from avatar_models.kernels.lanes import LANES
from tests.avatar_models.heads.nphm.tiny import TINY, codes, points, tiny

WIDER = replace(TINY, geometry_hidden=43, geometry_layers=1, color_hidden=20, color_layers=3, link=7, hyper=0, neighbors=7)


@pytest.mark.parametrize("sizes", [TINY, WIDER])
@pytest.mark.parametrize("count", [1, 700])
def test_the_kernel_says_what_the_tensors_say(sizes: NphmSizes, count: int) -> None:
    model, given = tiny(sizes).canonical, codes(2, sizes)
    x = 4 * points(2, count, 3 + sizes.hyper)
    with torch.no_grad():
        sdf, color = model.sdf_and_color(x, given.geometry, given.appearance)
        alone = model.sdf(x, given.geometry)
        expected = model.double().sdf_and_color(x.double(), given.geometry.double(), given.appearance.double())
    for found, exact in ((sdf, expected[0]), (alone, expected[0]), (color, expected[1])):
        assert (found - exact).abs().max() < 2e-6 * exact.abs().max()


@pytest.mark.parametrize("sizes", [TINY, WIDER, replace(TINY, geometry_layers=2, hyper=4)])
@pytest.mark.parametrize("count", [1, 700])
def test_the_kernels_gradients_are_those_of_float64(sizes: NphmSizes, count: int) -> None:
    model, given = tiny(sizes).canonical, codes(2, sizes)
    x = 4 * points(2, count, 3 + sizes.hyper)
    found = model.sdf_and_gradient(x, given.geometry)
    expected = model.double().sdf_and_gradient(x.double(), given.geometry.double())
    for some, exact in zip(found, expected, strict=True):
        assert some.dtype == torch.float32 and some.shape == exact.shape
        assert (some - exact).abs().max() < 2e-6 * exact.abs().max()


def test_softplus_is_that_of_float64_and_keeps_nan() -> None:
    x = torch.linspace(-0.4, 0.4, 64 * LANES)
    h, on = x.numpy().copy(), torch.empty(64, dtype=torch.int64).numpy()
    count = fused._soften(h, 0, 64, on)
    units = torch.from_numpy(on[:count])
    assert torch.equal(units, torch.arange(64 - count, 64))  # those below are off in all lanes
    exact = torch.nn.functional.softplus(x.double(), beta=100).view(64, -1)
    assert (torch.from_numpy(h).view(64, -1)[units] - exact[units]).abs().max() < 2e-8
    assert exact[: 64 - count].max() < 5e-10
    h[:] = float("nan")
    assert fused._soften(h, 0, 1, on) == 1 and torch.from_numpy(h[:LANES]).isnan().all()


def test_a_relu_keeps_nan_and_leaves_out_what_is_off() -> None:
    h = torch.tensor([[-1.0] * 16, [-1.0] * 15 + [2.0], [1.0] * 16, [float("nan")] * 16]).flatten().numpy()
    on = torch.empty(4, dtype=torch.int64).numpy()
    assert fused._rectify(h, 0, 4, on) == 3 and on[:3].tolist() == [1, 2, 3]
    assert h[16:32].tolist() == [0.0] * 15 + [2.0] and torch.from_numpy(h[48:]).isnan().all()


def test_points_that_are_no_numbers_do_not_stop_it() -> None:
    model, given, x = tiny(), codes(1), points(1, 40)
    x[0, 7] = float("nan")
    with torch.no_grad():
        found = model.sdf(x, given)[0]
    assert found[torch.arange(40) != 7].isfinite().all() and found[7].isnan()


def test_close_points_come_together() -> None:
    x = torch.rand(4000, 3, generator=torch.Generator().manual_seed(0))
    order = close_together(x)
    assert torch.equal(order.sort().values, torch.arange(4000))
    assert x[order].diff(dim=0).norm(dim=1).mean() < 0.25 * x.diff(dim=0).norm(dim=1).mean()


def test_the_bits_are_the_same_for_any_number_of_threads() -> None:
    model, given, x = tiny(), codes(1), points(1, 900)
    found = []
    before = torch.get_num_threads()
    for threads in (1, 3):
        torch.set_num_threads(threads)
        with torch.no_grad():
            places = torch.cat([x, x[..., :2]], 2)
            _, color = model.canonical.sdf_and_color(places, given.geometry, given.appearance)
            found.append((color, *model.canonical.sdf_and_gradient(places, given.geometry)))
    torch.set_num_threads(before)
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
