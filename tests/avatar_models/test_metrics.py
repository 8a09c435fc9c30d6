"""PSNR and SSIM against scikit-image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from avatar_models.metrics import psnr, ssim_map


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
