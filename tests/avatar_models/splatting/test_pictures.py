"""The CPU kernels' pictures against the float64 reference, and what splat refuses."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch

from avatar_models.cameras import Camera
from avatar_models.gaussians import Gaussians
from avatar_models.splatting import splat
from avatar_models.splatting.reference import splat_reference
from tests.avatar_models.splatting.scenes import as_float32, scene, strange_scene

FLIPPED = 1 / 3000
"""Share of pixels in which a Gaussian may stand on the other side of a threshold (1/255, 1e-4) than in float64."""


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


@pytest.mark.parametrize("length", [0.0, 1e-20, 1e20])
def test_a_quaternion_without_a_length_is_refused(length: float) -> None:
    gaussians, camera = scene(seed=4)
    assert gaussians.quats is not None
    gaussians.quats[9] *= length
    with pytest.raises(ValueError, match="quats of Gaussian 9 have no length that float32 can divide by"):
        splat(gaussians, camera)


def test_numbers_that_overflow_are_named() -> None:
    gaussians, camera = scene(seed=4, sh=4)
    gaussians.colors[33] = 3e38
    with pytest.raises(ValueError, match="colors of Gaussian 33 are too large for float32"):
        splat(gaussians, camera)


def test_what_cannot_be_asked_for_is_refused() -> None:
    gaussians, camera = scene(seed=4)
    for options in ({"near": 0.0}, {"near": float("nan")}, {"near": 2.0, "far": 1.0}):
        with pytest.raises(ValueError, match="0 < near < far"):
            splat(gaussians, camera, **options)
    with pytest.raises(ValueError, match="at least one camera"):
        splat(gaussians, camera[:0])
    with pytest.raises(ValueError, match=r"float32 or float64, are torch.bfloat16"):
        splat(replace(gaussians, means=gaussians.means.bfloat16()), camera)
    with pytest.raises(ValueError, match="focal lengths must be positive"):
        splat(gaussians, replace(camera, K=camera.K * 0))


@pytest.mark.parametrize("options", [{"near": 0.85}, {"far": 0.9}, {"near": 0.7, "far": 0.95}, {"radius_clip": 6.0}])
def test_what_is_near_far_or_small_is_left_out_as_in_the_reference(options: dict[str, float]) -> None:
    gaussians, camera = scene(seed=8)
    found, wanted = splat(gaussians, camera, **options), splat_reference(gaussians, camera, torch.zeros(2, 3), **options)
    assert (found.image - wanted.image).abs().max() < 2e-5 and torch.equal(found.radii, wanted.radii)
    seen = (wanted.radii > 0).all(-1).sum()
    assert 0 < seen < (splat_reference(gaussians, camera, torch.zeros(2, 3)).radii > 0).all(-1).sum()


def test_more_pairs_than_can_be_counted_are_refused() -> None:
    """Checked with a low limit: two thousand million pairs take more memory than a test may have."""
    gaussians, camera = scene(seed=8)
    with (
        pytest.MonkeyPatch.context() as patch,
        pytest.raises(ValueError, match=r"pairs of a Gaussian and a tile .* 100 is the most"),
    ):
        patch.setattr("avatar_models.kernels.lists.MAX_PAIRS", 100)
        splat(gaussians, camera)


def test_two_python_threads_render_at_once() -> None:
    scenes = [scene(seed, count=400) for seed in range(4)]
    alone = [splat(*pair).image for pair in scenes]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(10):
            together = pool.map(lambda pair: splat(*pair).image, scenes)
            assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))
