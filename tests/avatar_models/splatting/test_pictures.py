"""The CPU kernels' pictures against the float64 reference, and what splat refuses."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from avatar_models.cameras import Camera
from avatar_models.gaussians import Gaussians
from avatar_models.splatting import splat
from avatar_models.splatting.reference import splat_reference
from tests.avatar_models.splatting.scenes import as_float32, scene

FLIPPED = 1 / 3000
"""Share of pixels in which a Gaussian may stand on the other side of a threshold (1/255, 1e-4) than in float64."""


def strange_scene(seed: int) -> tuple[Gaussians, Camera]:
    """A random scene with one of the things that break rasterisers."""
    g = torch.Generator().manual_seed(seed)
    count = [0, 1, 40, 120][seed % 4]
    normal = lambda *shape: torch.randn(*shape, generator=g, dtype=torch.float64)  # noqa: E731
    means, quats, scales = normal(count, 3) * 0.15, normal(count, 4), torch.exp(normal(count, 3)) * 0.02
    opacities, colors = torch.sigmoid(2 * normal(count)), torch.rand(count, 1 + seed % 5, generator=g, dtype=torch.float64)
    oddity = seed // 4 % 8
    some = slice(0, count // 3)
    if oddity == 1:
        means[some, 2] -= 3.0  # behind the camera
    elif oddity == 2:
        scales[some] *= 100.0  # huge
    elif oddity == 3:
        scales[some] *= 1e-4  # far below a pixel
    elif oddity == 4:
        scales[some, 0] = 1e-9  # flat
    elif oddity == 5:
        opacities[some] = 1.0
    elif oddity == 6:
        means[some, 0] += 5.0  # outside the picture
    elif oddity == 7:
        means[some, 2] = means[0, 2] if count else 0.0  # all at one depth
    viewmat = torch.eye(4, dtype=torch.float64)[None].clone()
    viewmat[0, 2, 3] = 0.9
    width, height = 33 + seed % 30, 25 + seed % 41
    K = torch.tensor([[[1.8 * width, 0, width / 2], [0, 1.7 * width, height / 2], [0, 0, 1]]], dtype=torch.float64)
    return Gaussians(means, quats, scales, opacities, colors), Camera(K, viewmat, width, height)


@pytest.mark.parametrize("first", range(0, 200, 20))
def test_two_hundred_strange_scenes(first: int) -> None:
    pixels = flipped = 0
    for seed in range(first, first + 20):
        gaussians, camera = strange_scene(seed)
        # float64 of what the kernels get, so that only their arithmetic is compared
        rounded = as_float32(gaussians)
        exact = Gaussians(
            *(t.double() for t in (rounded.means, rounded.quats, rounded.scales, rounded.opacities, rounded.colors))
        )  # type: ignore[union-attr]
        background = torch.full((1, gaussians.colors.shape[1]), 0.3)
        view = Camera(camera.K.float(), camera.viewmat.float(), camera.width, camera.height)
        found = splat(rounded, view, background)
        wanted = splat_reference(
            exact, Camera(view.K.double(), view.viewmat.double(), view.width, view.height), background.double()
        )
        error = (found.image.double() - wanted.image).abs().amax(1)
        pixels, flipped = pixels + error.numel(), flipped + int((error > 2e-5).sum())
        assert error.max() < 1.5 / 255, seed  # one Gaussian of the least alpha, or what lies behind the last light
    assert flipped <= FLIPPED * pixels, f"{flipped} of {pixels} pixels"


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


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["means", "quats", "scales", "opacities", "colors"])
def test_each_kind_of_bad_number_is_refused(name: str, value: float) -> None:
    gaussians, camera = scene(seed=4)
    bad = getattr(gaussians, name).clone()
    bad[41].fill_(value)
    with pytest.raises(ValueError, match=f"{name} of Gaussian 41 are not finite"):
        splat(replace(gaussians, **{name: bad}), camera)
