"""VGG16's features, without torchvision: the weights are torchvision's published file. And a perceptual loss on them.

Which layers HeadGaS compares is not published; here it is the last one before each of the first four poolings, as in
Johnson et al. 2016. Images are (B, 3, H, W) in [0, 1].
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

VGG16_URL = "https://download.pytorch.org/models/vgg16-397923af.pth"
VGG16_SHA256 = "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, as torchvision trained it
STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""Channels of the 3 x 3 convolutions; a 2 x 2 maximum lies between two stages."""

COMPARED = STAGES[:4]
"""What the loss compares: up to relu4_3."""

EPS = 1e-10  # where all of a pixel's features are zero
SMALLEST = 16
"""Pixels: smaller pictures leave nothing to compare in the last stage."""


class PerceptualWeightsError(ValueError):
    """A file that does not hold the weights that it should; the message names it and says where the right one is."""


class Vgg16Features(nn.Module):
    """Features after the last ReLU of each stage: relu1_2, relu2_2, relu3_3, relu4_3 and, of all STAGES, relu5_3. Frozen."""

    mean: Tensor  # (3, 1, 1)
    std: Tensor  # (3, 1, 1)

    def __init__(self, stages: Sequence[Sequence[int]] = COMPARED) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        self.taps: list[int] = []
        channels = 3
        for stage in stages:
            for width in stage:
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
                channels = width
            self.taps.append(len(layers) - 1)
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers[:-1])  # named and numbered as in torchvision's file
        self.requires_grad_(False)
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(STD)[:, None, None], persistent=False)

    def forward(self, image: Tensor) -> list[Tensor]:
        x = (image - self.mean) / self.std
        found = []
        for place, layer in enumerate(self.features):
            x = layer(x)
            if place in self.taps:
                found.append(x)
        return found


def load_vgg16(path: Path, stages: Sequence[Sequence[int]] = COMPARED) -> Vgg16Features:
    """The features of torchvision's vgg16 file, or of any file with the same names.

    Raises PerceptualWeightsError, OSError.
    """
    model = Vgg16Features(stages)
    shapes = {name: tuple(own.shape) for name, own in model.state_dict().items()}
    model.load_state_dict(read_weights(path, shapes, "VGG16", VGG16_URL))
    return model.eval()


def read_weights(path: Path, shapes: Mapping[str, tuple[int, ...]], network: str, url: str) -> dict[str, Tensor]:
    """The named tensors of a file of weights, which may hold more, on the CPU.

    A file called NAME-xxxxxxxx.pth has to begin its sha256 with these digits, which is torchvision's custom.
    Raises PerceptualWeightsError, OSError.
    """
    told = re.search(r"-([0-9a-f]{8,64})\.pth$", path.name)
    if told and not file_sha256(path).startswith(told[1]):
        raise PerceptualWeightsError(f"{path}: its sha256 does not begin with {told[1]}: damaged; get it again from {url}")
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
    except (OSError, MemoryError):  # of a file that may be good
        raise
    except Exception as error:  # torch's reader raises whatever the damage leads it to
        raise PerceptualWeightsError(f"{path}: not a file of weights ({type(error).__name__}); get {url}") from None
    held = state if isinstance(state, Mapping) else {}
    for name, shape in shapes.items():
        found = getattr(held.get(name), "shape", None)
        if found != shape:
            what = f"is of another shape, {tuple(found)} in place of {shape}" if found is not None else f"{shape} is missing"
            raise PerceptualWeightsError(f"{path}: {name} {what}: not {network}; get {url}")
    return {name: held[name] for name in shapes}


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def perceptual(features: Vgg16Features, image: Tensor, target: Tensor, box: tuple[int, int, int, int]) -> Tensor:
    """Mean over the stages of the features' mean absolute difference, inside a box (left, top, right, bottom) in pixels."""
    left, top, right, bottom = box
    a, b = (features(x[..., top:bottom, left:right]) for x in (image, target.to(image.dtype)))
    return torch.stack([nnf.l1_loss(x, y) for x, y in zip(a, b, strict=True)]).mean()


def unit_channels(features: Tensor) -> Tensor:
    """Features (B, C, H, W) scaled to length 1 at each pixel, as LPIPS's published code does it."""
    return features / (features.square().sum(1, keepdim=True).sqrt() + EPS)


def matte_box(matte: Tensor, margin: int = 8) -> tuple[int, int, int, int] | None:
    """The box (left, top, right, bottom) around a matte (H, W) above a half, in pixels; None where it is too small."""
    rows, columns = ((matte > 0.5).any(axis).nonzero()[:, 0] for axis in (1, 0))
    if not len(rows):
        return None
    top, bottom = max(int(rows[0]) - margin, 0), min(int(rows[-1]) + 1 + margin, matte.shape[0])
    left, right = max(int(columns[0]) - margin, 0), min(int(columns[-1]) + 1 + margin, matte.shape[1])
    return (left, top, right, bottom) if min(right - left, bottom - top) >= SMALLEST else None
