"""LPIPS (Zhang et al. 2018), version 0.1 on VGG16, without torchvision and the lpips package: the published weights are read.

Images are (B, 3, H, W) in [0, 1]. The published code takes [-1, 1], then shifts and scales each colour; on [0, 1] that is
ImageNet's normalisation to the digit, (2x - 1 + 0.030) / 0.458 = (x - 0.485) / 0.229, and VGG's features begin with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from avatar_models.perceptual import (
    SMALLEST,
    STAGES,
    PerceptualWeightsError,
    Vgg16Features,
    load_vgg16,
    read_weights,
    unit_channels,
)

LPIPS_URL = "https://raw.githubusercontent.com/richzhang/PerceptualSimilarity/master/lpips/weights/v0.1/vgg.pth"
LPIPS_SHA256 = "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868"


class Lpips(nn.Module):
    """How unlike images are, 0 for equal ones. A figure, not a loss: it gives no gradient."""

    def __init__(self, features: Vgg16Features, weights: Sequence[Tensor]) -> None:
        """`weights`: what each channel (C,) of each of the features' stages counts, not negative."""
        super().__init__()
        self.features = features
        self.weights = nn.ParameterList([nn.Parameter(own, requires_grad=False) for own in weights])

    @torch.no_grad()
    def forward(self, images: Tensor, targets: Tensor) -> Tensor:
        """LPIPS (B,) of images (B, 3, H, W) against as many targets or one (1, 3, H, W). Raises ValueError below 16 pixels."""
        if min(images.shape[-2:]) < SMALLEST:
            raise ValueError(f"LPIPS of {tuple(images.shape[-2:])} pixels: it needs {SMALLEST} each way; raise the resolution")
        both = torch.cat([images, targets]).to(self.weights[0])
        distance = both.new_zeros(len(images))
        for found, weights in zip(self.features(both), self.weights, strict=True):
            a, b = unit_channels(found).split([len(images), len(targets)])
            distance += ((a - b).square() * weights[:, None, None]).sum(1).mean((1, 2))  # equation 1
        return distance


def load_lpips(vgg16: Path, linear: Path) -> Lpips:
    """LPIPS of torchvision's vgg16 file and of the published vgg.pth of version 0.1, or of files of the same layout.

    Raises PerceptualWeightsError, OSError.
    """
    shapes = {f"lin{stage}.model.1.weight": (1, widths[-1], 1, 1) for stage, widths in enumerate(STAGES)}
    found = read_weights(linear, shapes, "LPIPS's weights for VGG16", LPIPS_URL)
    for name, own in found.items():
        if not bool((own >= 0).all()):
            raise PerceptualWeightsError(
                f"{linear}: {name} {tuple(own.shape)} has a weight of {float(own.min())}, LPIPS's are not negative; "
                f"get {LPIPS_URL}"
            )
    return Lpips(load_vgg16(vgg16, STAGES), [own.flatten().float() for own in found.values()]).eval()
