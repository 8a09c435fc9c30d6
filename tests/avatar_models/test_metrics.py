"""PSNR and SSIM against scikit-image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from avatar_models.metrics import psnr, psnr_inside, ssim_inside, ssim_map


def pair(size: tuple[int, int] = (40, 52)) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    image = torch.rand(2, 3, *size, generator=g, dtype=torch.float64)
    return image, (image + 0.1 * torch.randn(2, 3, *size, generator=g, dtype=torch.float64)).clamp(0, 1)


def test_psnr_is_scikit_images() -> None:
    image, target = pair()
    for found, a, b in zip(psnr(image, target), image, target, strict=True):
        assert float(found) == pytest.approx(peak_signal_noise_ratio(b.numpy(), a.numpy(), data_range=1.0), rel=1e-9)


def test_ssim_is_scikit_images_away_from_the_border() -> None:
    image, target = pair()
    found = ssim_map(image, target)[0, 1].numpy()
    _, wanted = structural_similarity(
        image[0, 1].numpy(), target[0, 1].numpy(), data_range=1.0, gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False, full=True,
    )  # fmt: skip
    inner = np.s_[6:-6, 6:-6]
    assert np.abs(found[inner] - wanted[inner]).max() < 1e-9


def test_inside_a_matte_only_its_pixels_count() -> None:
    rng = np.random.default_rng(5)
    image, target = (torch.from_numpy(rng.random((2, 3, 40, 40))) for _ in range(2))
    matte = torch.zeros(2, 1, 40, 40, dtype=image.dtype)
    matte[:, :, 10:30, 5:25] = 1.0
    cut = (slice(None), slice(None), slice(10, 30), slice(5, 25))
    assert torch.allclose(psnr_inside(image, target, matte), psnr(image[cut], target[cut]))
    assert torch.allclose(ssim_inside(image, target, matte), ssim_map(image, target)[cut].flatten(1).mean(1))
    everything = torch.ones_like(matte)
    assert torch.allclose(psnr_inside(image, target, everything), psnr(image, target))


def test_a_soft_matte_weighs() -> None:
    image, target = torch.zeros(1, 3, 1, 2), torch.tensor([0.5, 0.1]).expand(1, 3, 1, 2)
    matte = torch.tensor([0.25, 1.0]).reshape(1, 1, 1, 2)
    by_hand = -10 * np.log10((0.25 * 0.25 + 1.0 * 0.01) / 1.25)
    assert float(psnr_inside(image, target, matte)) == pytest.approx(by_hand, abs=1e-4)
