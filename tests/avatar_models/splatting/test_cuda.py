"""The CUDA backend. gsplat itself needs a GPU; where there is none, what it is asked for is checked."""

from __future__ import annotations

import sys
import types

import pytest
import torch

from avatar_models.cameras import Camera
from avatar_models.splatting import splat
from avatar_models.splatting.cuda import NO_NVCC, why_no_cuda_code
from tests.avatar_models.splatting.scenes import SIZE, as_float32, scene
from tests.avatar_models.splatting.test_gradients import leaves, rendered


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
    found = splat_cuda(gaussians, camera, background, near=0.02, far=10.0, radius_clip=3.0, antialiased=True)
    assert (asked["sh_degree"], asked["rasterize_mode"], asked["eps2d"]) == (1, "antialiased", 0.3)
    assert (asked["near_plane"], asked["far_plane"], asked["radius_clip"]) == (0.02, 10.0, 3.0)
    assert (asked["width"], asked["height"], asked["backgrounds"], asked["covars"]) == (SIZE, SIZE + 5, None, None)
    given = {name: getattr(gaussians, name) for name in ("means", "quats", "scales", "opacities", "colors")}
    assert all(asked[name] is tensor for name, tensor in {**given, "viewmats": camera.viewmat, "Ks": camera.K}.items())
    assert found.image.shape == (2, 3, camera.height, camera.width)
    assert torch.allclose(found.image, torch.tensor(0.25 + 0.5)) and torch.allclose(found.depth, torch.tensor(2.0))
    assert found.radii.shape == (2, 150, 2)


class Failing(types.ModuleType):
    """gsplat's backend, whose build fails."""

    @property
    def _C(self) -> object:
        raise RuntimeError("Error building extension\n  glm/glm.hpp: No such file")


@pytest.mark.parametrize(
    ("backend", "why"),
    [
        (types.SimpleNamespace(_C=object()), ""),
        (types.SimpleNamespace(_C=None), NO_NVCC),
        (Failing("backend"), "RuntimeError: Error building extension glm/glm.hpp: No such file"),
    ],
)
def test_why_gsplat_cannot_draw_is_told(monkeypatch: pytest.MonkeyPatch, backend: object, why: str) -> None:
    for name, module in (("gsplat", object()), ("gsplat.cuda", object()), ("gsplat.cuda._backend", backend)):
        monkeypatch.setitem(sys.modules, name, module)
    assert why_no_cuda_code.__wrapped__() == why


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize(("channels", "sh", "antialiased"), [(3, 0, False), (32, 0, False), (3, 16, True)])
def test_gsplat_and_the_kernels_agree(channels: int, sh: int, antialiased: bool) -> None:
    gaussians, camera = scene(seed=6, channels=channels, sh=sh)
    gaussians, camera = as_float32(gaussians), Camera(camera.K.float(), camera.viewmat.float(), camera.width, camera.height)
    background = torch.linspace(0, 1, 3 if sh else channels).expand(2, -1)
    pictures, gradients = [], []
    for device in ("cpu", "cuda"):
        named = {name: t.detach().to(device).requires_grad_() for name, t in leaves(gaussians, camera, background).items()}
        found = rendered(named, camera.to(device), splat, antialiased=antialiased)
        ((found.image - 0.5).square() + found.alpha + found.depth).sum().backward()
        pictures.append({name: getattr(found, name).detach().cpu() for name in ("image", "alpha", "depth")})
        gradients.append({name: t.grad.cpu() for name, t in named.items()})  # type: ignore[union-attr]
    for name, picture in pictures[0].items():
        assert (pictures[1][name] - picture).abs().max() < 1e-3, name
    for name, gradient in gradients[0].items():
        assert (gradients[1][name] - gradient).norm() < 1e-2 * gradient.norm(), name
