"""The neural renderer: splatted features to the picture (section 3.4). A U-net reads them, and a StyleGAN2 decoder draws.

B pictures, levels l of 4, 8, ... pixels up to the picture's size.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from avatar_models.gagavatar.settings import BLACK, RGB
from avatar_models.gagavatar.sizes import RendererSizes
from avatar_models.gagavatar.style import SLOPE, ResBlock, StyleConv, StyleMlp, ToRgb


class StyleUNet(nn.Module):
    """At each level the U-net's features say by how much the decoder's are scaled and shifted (spatial feature transform)."""

    def __init__(self, inputs: int, sizes: RendererSizes, on_coarse: bool = False) -> None:
        """on_coarse: what it draws is a change of the first three channels, none at first. The paper's draws anew."""
        super().__init__()
        self.on_coarse = on_coarse
        widths = sizes.widths
        finer = list(pairwise(widths))  # coarse to fine
        self.first = nn.Conv2d(inputs, widths[-1], 1)
        self.down = nn.ModuleList([ResBlock(fine, coarse, 0.5) for coarse, fine in reversed(finer)])
        self.bottom = nn.Conv2d(widths[0], widths[0], 3, padding=1)
        self.to_code = nn.Linear(widths[0] * 4 * 4, sizes.style_dim)
        self.up = nn.ModuleList([ResBlock(coarse, fine, 2) for coarse, fine in finer])
        self.scales = nn.ModuleList([modulation(width) for width in widths[1:]])
        self.shifts = nn.ModuleList([modulation(width) for width in widths[1:]])
        self.decoder = Decoder([2 * width for width in widths], sizes)
        if on_coarse:
            for to_rgb in (self.decoder.first_rgb, *self.decoder.rgbs):
                nn.init.zeros_(to_rgb.conv.weight)

    def forward(self, features: Tensor) -> Tensor:
        """Splatted features (B, C, S, S) -> pictures (B, 3, S, S) in [0, 1]."""
        x, skips = leaky_relu(self.first(features), SLOPE), []
        for block in self.down:
            x = block(x)
            skips.append(x)
        x = leaky_relu(self.bottom(x), SLOPE)
        code = self.to_code(x.flatten(1))
        transforms = []
        for block, skip, scale, shift in zip(self.up, reversed(skips), self.scales, self.shifts, strict=True):
            x = block(x + skip)
            transforms.append((scale(x), shift(x)))
        drawn = self.decoder(code, transforms)
        return torch.sigmoid(drawn + torch.logit(features[:, :RGB], BLACK) if self.on_coarse else drawn)


def modulation(width: int) -> nn.Sequential:
    """What makes a scale or a shift of the decoder's channels, twice as many, of a level's features."""
    return nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.LeakyReLU(SLOPE), nn.Conv2d(width, 2 * width, 3, padding=1))


class Decoder(nn.Module):
    """StyleGAN2: from a learned constant of 4 x 4 up, two convolutions and a picture at each level."""

    def __init__(self, widths: list[int], sizes: RendererSizes) -> None:
        super().__init__()
        dim = sizes.style_dim
        self.style = StyleMlp(dim, sizes.style_layers)
        self.constant = nn.Parameter(torch.randn(1, widths[0], 4, 4))
        self.first = StyleConv(widths[0], widths[0], 4, dim, upsample=False)
        self.first_rgb = ToRgb(widths[0], dim)
        levels = [(coarse, fine, 8 * 2**i) for i, (coarse, fine) in enumerate(pairwise(widths))]
        self.ups = nn.ModuleList([StyleConv(coarse, fine, size, dim, upsample=True) for coarse, fine, size in levels])
        self.convs = nn.ModuleList([StyleConv(fine, fine, size, dim, upsample=False) for _, fine, size in levels])
        self.rgbs = nn.ModuleList([ToRgb(fine, dim) for _, fine, _ in levels])

    def forward(self, code: Tensor, transforms: list[tuple[Tensor, Tensor]]) -> Tensor:
        """Code (B, style_dim), and for each level a scale and a shift (B, width, s, s) -> (B, 3, S, S)."""
        w = self.style(code)
        x = self.first(self.constant.expand(len(code), -1, -1, -1), w)
        rgb = self.first_rgb(x, w)
        for up, conv, to_rgb, (scale, shift) in zip(self.ups, self.convs, self.rgbs, transforms, strict=True):
            x = up(x, w) * scale + shift
            x = conv(x, w)
            rgb = to_rgb(x, w, rgb)
        assert isinstance(rgb, Tensor)
        return rgb
