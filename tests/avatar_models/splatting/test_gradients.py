"""The CPU kernels' gradients against autograd through the float64 reference, for every input."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from avatar_models.cameras import Camera
from avatar_models.gaussians import Gaussians
from avatar_models.splatting import Splats, splat
from avatar_models.splatting.reference import splat_reference
from tests.avatar_models.splatting.scenes import as_float32, scene, strange_scene


def leaves(gaussians: Gaussians, camera: Camera, background: Tensor) -> dict[str, Tensor]:
    named = {name: getattr(gaussians, name) for name in ("means", "quats", "scales", "opacities", "colors")}
    named |= {"viewmat": camera.viewmat, "background": background}
    return {name: tensor.detach().clone().requires_grad_() for name, tensor in named.items()}


def rendered(named: dict[str, Tensor], camera: Camera, function, **options) -> Splats:  # type: ignore[no-untyped-def]
    gaussians = Gaussians(*(named[name] for name in ("means", "quats", "scales", "opacities", "colors")))
    view = Camera(camera.K.to(named["means"]), named["viewmat"], camera.width, camera.height)
    return function(gaussians, view, named["background"], **options)


@pytest.mark.parametrize(
    ("channels", "sh", "antialiased"),
    [(channels, 0, False) for channels in (1, 2, 3, 4, 7, 16, 17, 32, 64, 65, 200)]
    + [(3, sh, False) for sh in (1, 4, 9, 16)]
    + [(3, 0, True), (3, 4, True), (8, 0, True)],
)
def test_pictures_and_gradients_match_the_reference(channels: int, sh: int, antialiased: bool) -> None:
    gaussians, camera = scene(seed=channels + sh, channels=channels, sh=sh)
    background = torch.linspace(0.1, 0.9, 3 if sh else channels, dtype=torch.float64).expand(2, -1)
    exact = leaves(gaussians, camera, background)
    fast = leaves(
        as_float32(gaussians), Camera(camera.K.float(), camera.viewmat.float(), camera.width, camera.height), background.float()
    )
    wanted = rendered(exact, camera, splat_reference, antialiased=antialiased)
    found = rendered(fast, camera, splat, antialiased=antialiased)
    for name in ("image", "alpha", "depth"):
        assert (getattr(found, name).double() - getattr(wanted, name)).abs().max() < 2e-5, name
    assert torch.equal(found.radii, wanted.radii)

    g = torch.Generator().manual_seed(0)
    weights = [torch.rand(t.shape, generator=g, dtype=torch.float64) for t in (wanted.image, wanted.alpha, wanted.depth)]
    for splats in (wanted, found):
        parts = zip((splats.image, splats.alpha, splats.depth), weights, strict=True)
        sum((t * w.to(t)).sum() for t, w in parts).backward()  # type: ignore[union-attr]
    for name, tensor in exact.items():
        error = (fast[name].grad.double() - tensor.grad).norm() / tensor.grad.norm()  # type: ignore[union-attr]
        assert error < (1e-4 if name == "viewmat" else 5e-5), (name, float(error))


@pytest.mark.parametrize(("channels", "sh"), [(3, 0), (3, 9), (17, 0)])
def test_any_number_of_threads_gives_the_same_bits(channels: int, sh: int) -> None:
    gaussians, camera = scene(seed=1, count=3000, channels=channels, sh=sh)
    view = Camera(3 * camera.K.float(), camera.viewmat.float(), 3 * camera.width, 3 * camera.height)
    results = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 4, 3, 4, 2, 1):
            torch.set_num_threads(threads)
            named = leaves(as_float32(gaussians), view, torch.zeros(2, channels))
            found = rendered(named, view, splat)
            (found.image.square().sum() + found.depth.sum()).backward()
            results.append([found.image.detach(), found.depth.detach(), *(t.grad for t in named.values())])
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("first", range(0, 64, 16))
def test_gradients_of_strange_scenes(first: int) -> None:
    """Opacities of one, huge, flat and tiny Gaussians, some outside or behind: see scenes.py."""
    for seed in range(first, first + 16):
        gaussians, camera = strange_scene(seed)
        if not len(gaussians):
            continue
        view = Camera(camera.K.float(), camera.viewmat.float(), camera.width, camera.height)
        background = torch.full((1, gaussians.colors.shape[1]), 0.3)
        fast = leaves(as_float32(gaussians), view, background)
        exact = {name: tensor.detach().double().requires_grad_() for name, tensor in fast.items()}
        found = rendered(fast, view, splat, antialiased=seed % 3 == 0)
        wanted = rendered(exact, view, splat_reference, antialiased=seed % 3 == 0)
        # A pixel in which a Gaussian stands on the other side of a threshold than in float64 is another picture.
        same = (found.image.double() - wanted.image).abs().amax(1, keepdim=True) < 2e-5
        for splats in (found, wanted):
            (((splats.image - 0.5).square() + splats.alpha + splats.depth) * same).sum().backward()
        for name, tensor in exact.items():
            assert tensor.grad is not None and fast[name].grad is not None
            error = (fast[name].grad.double() - tensor.grad).norm()
            assert error < 2e-3 * tensor.grad.norm() + 1e-6, (seed, name, float(error), float(tensor.grad.norm()))


def test_gradients_of_covariances() -> None:
    from avatar_models.splatting.projection import covariances_of

    gaussians, camera = scene(seed=2)
    view = Camera(camera.K.float(), camera.viewmat.float(), camera.width, camera.height)
    exact = covariances_of(gaussians).requires_grad_()
    fast = exact.detach().float().requires_grad_()
    weight = torch.rand(2, 3, camera.height, camera.width, generator=torch.Generator().manual_seed(0))
    black = torch.zeros(2, 3)
    wanted = splat_reference(replace(gaussians, covariances=exact, quats=None, scales=None), camera, black.double())
    found = splat(replace(as_float32(gaussians), covariances=fast, quats=None, scales=None), view, black)
    (wanted.image * weight).sum().backward()
    (found.image * weight).sum().backward()
    assert (fast.grad.double() - exact.grad).norm() < 5e-5 * exact.grad.norm()  # type: ignore[union-attr, operator]


def test_the_screen_gradient_is_there_for_density_control() -> None:
    gaussians, camera = scene(seed=3)
    view = Camera(camera.K.float(), camera.viewmat.float(), camera.width, camera.height)
    moved = as_float32(gaussians)
    moved.means.requires_grad_()
    found = splat(moved, view)
    found.means2d.retain_grad()
    found.image.square().sum().backward()
    assert found.means2d.grad is not None and found.means2d.grad.shape == (2, 150, 2)
    unseen = (found.radii == 0).all(-1)
    assert found.means2d.grad[unseen].abs().sum() == 0 < found.means2d.grad.abs().sum()


def float_scene(seed: int) -> tuple[dict[str, Tensor], Camera]:
    gaussians, camera = scene(seed)
    view = Camera(camera.K.float(), camera.viewmat.float(), camera.width, camera.height)
    return leaves(as_float32(gaussians), view, torch.zeros(2, 3)), view


@pytest.mark.parametrize("changed", ["means", "quats", "scales", "opacities", "background", "depth"])
def test_a_change_in_place_before_backward_is_noticed(changed: str) -> None:
    named, camera = float_scene(seed=5)
    found = rendered(named, camera, splat)
    with torch.no_grad():
        (found.depth if changed == "depth" else named[changed]).mul_(1.5)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        (found.image.sum() + found.depth.sum()).backward()


def test_backward_runs_once_or_as_often_as_the_graph_is_kept() -> None:
    named, camera = float_scene(seed=5)
    loss = rendered(named, camera, splat).image.square().sum()
    first = torch.autograd.grad(loss, named["means"], retain_graph=True)[0]
    assert torch.equal(first, torch.autograd.grad(loss, named["means"])[0])
    with pytest.raises(RuntimeError, match="a second time"):
        torch.autograd.grad(loss, named["means"])


def test_what_is_not_seen_gets_zero_whatever_it_is() -> None:
    named, camera = float_scene(seed=6)
    with torch.no_grad():
        named["scales"][7] = 1e19
        named["means"][8, 2] = -5.0
        named["means"][9, 0] = 1e30
    found = rendered(named, camera, splat)
    assert (found.radii[:, [7, 8, 9]] == 0).all()
    found.image.square().sum().backward()
    for name, tensor in named.items():
        assert tensor.grad is not None and bool(torch.isfinite(tensor.grad).all()), name
        if name not in ("viewmat", "background"):
            assert tensor.grad[[7, 8, 9]].abs().sum() == 0, name
