"""A photo to a feature map and one global feature: DINOv2 and a pyramid in the manner of DPT (Ranftl et al. 2021).

B photos, P patches along a side, H channels of the transformer, F of the feature map.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, relu
from transformers import Dinov2Config, Dinov2Model

from avatar_models.gagavatar.settings import Setting
from avatar_models.gagavatar.sizes import EncoderSizes

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's


class Encoder(nn.Module):
    """DINOv2's last four layers, brought to four resolutions and fused from coarse to fine."""

    def __init__(self, sizes: EncoderSizes, plane_size: int) -> None:
        super().__init__()
        self.sizes, self.plane_size = sizes, plane_size
        self.vit = Dinov2Model(
            Dinov2Config(
                image_size=sizes.image_size,
                patch_size=sizes.patch_size,
                hidden_size=sizes.hidden_size,
                num_hidden_layers=sizes.num_layers,
                num_attention_heads=sizes.num_heads,
                use_mask_token=False,
            )
        )
        one, two, _, four = sizes.levels
        self.projections = nn.ModuleList([nn.Conv2d(sizes.hidden_size, channels, 1) for channels in sizes.levels])
        self.resizes = nn.ModuleList(
            [
                nn.ConvTranspose2d(one, one, 4, stride=4),
                nn.ConvTranspose2d(two, two, 2, stride=2),
                nn.Identity(),
                nn.Conv2d(four, four, 3, stride=2, padding=1),
            ]
        )
        self.narrow = nn.ModuleList(
            [nn.Conv2d(3 + channels, sizes.fused, 3, padding=1, bias=False) for channels in sizes.levels]
        )
        self.coarsest = Refine(sizes.fused)
        self.fusions = nn.ModuleList([Fusion(sizes.fused) for _ in range(3)])
        self.out = nn.Conv2d(sizes.fused, sizes.fused, 3, padding=1)

    def forward(self, photos: Tensor, setting: Setting) -> tuple[Tensor, Tensor]:
        """Photos (B, 3, S, S) in [0, 1] -> F_local (B, F, plane, plane), F_id (B, H)."""
        side = self.sizes.image_size
        images = photos if photos.shape[3] == side else interpolate(photos, (side, side), mode="bilinear", antialias=True)
        images = (images - images.new_tensor(MEAN)[:, None, None]) / images.new_tensor(STD)[:, None, None]
        layers = self.layers(images)
        levels = [self.level(index, layer[:, 1:], images) for index, layer in enumerate(layers)]
        sizes = [levels[1].shape[2:], levels[0].shape[2:], (self.plane_size, self.plane_size)]
        x = self.coarsest(levels[3], levels[2].shape[2:])
        for fusion, level, size in zip(self.fusions, levels[2::-1], sizes, strict=True):
            x = fusion(x, level, size)
        return self.out(x), setting.global_feature(layers[-1][:, 0], layers[-1][:, 1:])

    def layers(self, images: Tensor) -> list[Tensor]:
        """The last four layers' tokens (B, 1 + P^2, H) after the transformer's last norm, CLS first."""
        hidden = self.vit(images, output_hidden_states=True).hidden_states
        return [self.vit.layernorm(tokens) for tokens in hidden[-4:]]

    def level(self, index: int, patches: Tensor, images: Tensor) -> Tensor:
        """A layer's patch tokens as a map of that level's resolution, with the picture beside them, (B, F, s, s)."""
        side = self.sizes.image_size // self.sizes.patch_size
        x = patches.mT.unflatten(2, (side, side))
        x = self.resizes[index](self.projections[index](x))
        picture = interpolate(images, x.shape[2:], mode="bilinear", antialias=True)
        return cast(Tensor, self.narrow[index](torch.cat([picture, x], 1)))


class Residual(nn.Module):
    """x + conv(relu(conv(relu(x))))"""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + cast(Tensor, self.conv2(relu(self.conv1(relu(x)))))


class Refine(nn.Module):
    """A level refined and resized."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.refine = Residual(channels)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, size: tuple[int, ...]) -> Tensor:
        return cast(Tensor, self.out(interpolate(self.refine(x), size, mode="bilinear", align_corners=True)))


class Fusion(nn.Module):
    """What came from coarser levels, with the next finer one added, refined and resized."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.lateral = Residual(channels)
        self.refine = Refine(channels)

    def forward(self, x: Tensor, level: Tensor, size: tuple[int, ...]) -> Tensor:
        return cast(Tensor, self.refine(x + self.lateral(level), size))
