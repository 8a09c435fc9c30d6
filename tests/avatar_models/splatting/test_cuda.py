"""The CUDA backend. gsplat itself needs a GPU; where there is none, what it is asked for is checked."""

from __future__ import annotations

import sys
import types
from dataclasses import fields

import pytest
import torch

from avatar_models.cameras import Camera
from avatar_models.gaussians import Gaussians
from avatar_models.splatting import splat
from tests.avatar_models.splatting.scenes import as_float32, scene


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


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize(("channels", "sh", "antialiased"), [(3, 0, False), (32, 0, False), (3, 16, True)])
def test_gsplat_and_the_kernels_agree(channels: int, sh: int, antialiased: bool) -> None:
    gaussians, camera = scene(seed=6, channels=channels, sh=sh)
    gaussians, camera = as_float32(gaussians), Camera(camera.K.float(), camera.viewmat.float(), camera.width, camera.height)
    on_gpu = Gaussians(*(t if t is None else t.cuda() for t in (getattr(gaussians, f.name) for f in fields(gaussians))))
    background = torch.linspace(0, 1, 3 if sh else channels)
    wanted = splat(gaussians, camera, background, antialiased=antialiased)
    found = splat(on_gpu, camera.to("cuda"), background.cuda(), antialiased=antialiased)
    for name in ("image", "alpha", "depth"):
        assert (getattr(found, name).cpu() - getattr(wanted, name)).abs().max() < 1e-3, name
