"""The CPU kernels against the float64 reference: pictures, and gradients to every input."""

from __future__ import annotations

import sys
import types
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from avatar_models.cameras import Camera
from avatar_models.gaussians import Gaussians
from avatar_models.splatting import Splats, splat
from avatar_models.splatting.reference import splat_reference

SIZE = 40


def scene(seed: int, count: int = 150, channels: int = 3, sh: int = 0) -> tuple[Gaussians, Camera]:
    """A cloud of Gaussians before two cameras, in float64."""
    g = torch.Generator().manual_seed(seed)
    normal = lambda *shape: torch.randn(*shape, generator=g, dtype=torch.float64)  # noqa: E731
    colors = normal(count, sh, 3) * 0.3 if sh else torch.rand(count, channels, generator=g, dtype=torch.float64)
    gaussians = Gaussians(
        normal(count, 3) * 0.1, normal(count, 4), torch.exp(normal(count, 3) * 0.5) * 0.02, torch.sigmoid(normal(count)), colors
    )
    viewmat = torch.eye(4, dtype=torch.float64).repeat(2, 1, 1)
    viewmat[:, 2, 3] = torch.tensor([0.8, 1.1])
    viewmat[1, :3, :3] = torch.linalg.matrix_exp(
        torch.tensor([[0.0, -0.1, 0.2], [0.1, 0, 0.0], [-0.2, 0, 0]], dtype=torch.float64)
    )
    K = torch.tensor([[2.0 * SIZE, 0, SIZE / 2], [0, 2.2 * SIZE, SIZE / 2 + 1], [0, 0, 1]], dtype=torch.float64).repeat(2, 1, 1)
    return gaussians, Camera(K, viewmat, SIZE, SIZE + 5)


def as_float32(gaussians: Gaussians) -> Gaussians:
    return Gaussians(
        *(t.float() for t in (gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities, gaussians.colors))
    )


def leaves(gaussians: Gaussians, camera: Camera, background: Tensor) -> dict[str, Tensor]:
    named = {name: getattr(gaussians, name) for name in ("means", "quats", "scales", "opacities", "colors")}
    named |= {"viewmat": camera.viewmat, "background": background}
    return {name: tensor.detach().clone().requires_grad_() for name, tensor in named.items()}


def rendered(named: dict[str, Tensor], camera: Camera, function, **options) -> Splats:  # type: ignore[no-untyped-def]
    gaussians = Gaussians(*(named[name] for name in ("means", "quats", "scales", "opacities", "colors")))
    view = Camera(camera.K.to(named["means"]), named["viewmat"], camera.width, camera.height)
    return function(gaussians, view, named["background"], **options)


@pytest.mark.parametrize(
    ("channels", "sh", "antialiased"), [(1, 0, False), (3, 0, True), (7, 0, False), (3, 16, False), (3, 4, True)]
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


def test_one_thread_and_three_give_the_same_bits() -> None:
    gaussians, camera = scene(seed=1)
    camera = Camera(camera.K.float(), camera.viewmat.float(), camera.width, camera.height)
    results = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 3, 1):
            torch.set_num_threads(threads)
            named = leaves(as_float32(gaussians), camera, torch.zeros(2, 3))
            image = rendered(named, camera, splat).image
            image.square().sum().backward()
            results.append([image.detach(), *(t.grad for t in named.values())])
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_covariances_in_place_of_quats_and_scales() -> None:
    from avatar_models.splatting.projection import covariances_of

    gaussians, camera = scene(seed=2)
    given = replace(gaussians, covariances=covariances_of(gaussians), quats=None, scales=None)
    assert torch.allclose(splat(gaussians, camera).image, splat(given, camera).image, atol=1e-6)


def test_nothing_in_view_is_background_alone() -> None:
    gaussians, camera = scene(seed=3)
    behind = replace(gaussians, means=gaussians.means - torch.tensor([0.0, 0.0, 5.0]))
    found = splat(behind, camera, torch.tensor([0.2, 0.4, 0.6]))
    assert torch.allclose(found.image[0, :, 3, 4].double(), torch.tensor([0.2, 0.4, 0.6], dtype=torch.float64))
    assert found.alpha.max() == 0 and found.radii.max() == 0


def test_a_bad_number_is_named_with_its_gaussian() -> None:
    gaussians, camera = scene(seed=4)
    gaussians.scales[17, 1] = float("nan")  # type: ignore[index]
    with pytest.raises(ValueError, match="scales of Gaussian 17 are not finite"):
        splat(gaussians, camera)


def test_the_cuda_backend_asks_gsplat_for_what_the_signature_means(monkeypatch: pytest.MonkeyPatch) -> None:
    """gsplat itself needs a GPU; what is checked here is what it is called with, and how its answer is read."""
    gaussians, camera = scene(seed=5, sh=4)
    asked: dict[str, object] = {}

    def rasterization(**arguments):  # type: ignore[no-untyped-def]
        asked.update(arguments)
        B, H, W = len(camera), camera.height, camera.width
        colours = torch.full((B, H, W, 4), 0.25)
        colours[..., 3] = 2.0  # expected depth
        return (
            colours,
            torch.full((B, H, W, 1), 0.5),
            {"means2d": torch.zeros(B, 150, 2), "radii": torch.ones(B, 150, dtype=torch.int32)},
        )

    fake = types.ModuleType("gsplat")
    fake.rasterization = rasterization  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "gsplat", fake)
    from avatar_models.splatting.cuda import splat_cuda

    background = torch.ones(2, 3)
    found = splat_cuda(gaussians, camera, background, near=0.01, far=10.0, radius_clip=0.0, antialiased=True)
    assert (asked["sh_degree"], asked["rasterize_mode"], asked["eps2d"]) == (1, "antialiased", 0.3)
    assert found.image.shape == (2, 3, camera.height, camera.width)
    assert torch.allclose(found.image, torch.tensor(0.25 + 0.5)) and torch.allclose(found.depth, torch.tensor(2.0))
    assert found.radii.shape == (2, 150, 2)
