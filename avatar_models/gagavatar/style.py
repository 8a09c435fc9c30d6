"""StyleGAN2's layers as GFPGAN's "clean" generator has them (Karras et al. 2020; Wang et al. 2021). B pictures."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, interpolate, leaky_relu

EPS = 1e-8
SLOPE = 0.2  # of LeakyReLU everywhere


def resized(x: Tensor, factor: float) -> Tensor:
    return interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


class ModulatedConv(nn.Module):
    """A convolution whose input channels a style scales, and whose output is brought back to unit variance (demodulated).

    Scaling what goes in and out is the same as scaling the weights for each picture of a batch, and one convolution does all.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, style_dim: int, *, demodulate: bool) -> None:
        super().__init__()
        self.kernel, self.demodulate = kernel, demodulate
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel) / math.sqrt(inputs * kernel**2))
        self.modulation = nn.Linear(style_dim, inputs)
        nn.init.kaiming_normal_(self.modulation.weight, nonlinearity="linear")
        nn.init.ones_(self.modulation.bias)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """x (B, inputs, S, S), style (B, style_dim) -> (B, outputs, S, S)."""
        s = self.modulation(style)  # (B, inputs)
        out = conv2d(x * s[..., None, None], self.weight, padding=self.kernel // 2)
        if not self.demodulate:
            return out
        variance = s.square() @ self.weight.square().sum((2, 3)).T  # (B, outputs)
        return out * torch.rsqrt(variance + EPS)[..., None, None]


class StyleConv(nn.Module):
    """A modulated convolution, noise, and LeakyReLU.

    The released code draws new noise for each picture, also of a video; here it is the noise that is stored with the weights.
    """

    noise: Tensor  # (1, 1, S, S) drawn once

    def __init__(self, inputs: int, outputs: int, size: int, style_dim: int, *, upsample: bool) -> None:
        super().__init__()
        self.upsample = upsample
        self.conv = ModulatedConv(inputs, outputs, 3, style_dim, demodulate=True)
        self.noise_weight = nn.Parameter(torch.zeros(1))
        self.bias = nn.Parameter(torch.zeros(1, outputs, 1, 1))
        self.register_buffer("noise", torch.randn(1, 1, size, size))

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        x = resized(x, 2) if self.upsample else x
        x = self.conv(x, style) * math.sqrt(2)
        return leaky_relu(x + self.noise_weight * self.noise + self.bias, SLOPE)


class ToRgb(nn.Module):
    """Features to a picture, added to the one of half the size."""

    def __init__(self, inputs: int, style_dim: int) -> None:
        super().__init__()
        self.conv = ModulatedConv(inputs, 3, 1, style_dim, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(1, 3, 1, 1))

    def forward(self, x: Tensor, style: Tensor, coarser: Tensor | None = None) -> Tensor:
        rgb = self.conv(x, style) + self.bias
        return rgb if coarser is None else rgb + resized(coarser, 2)


class StyleMlp(nn.Module):
    """A code to the style of all layers."""

    def __init__(self, style_dim: int, layers: int) -> None:
        super().__init__()
        linear = [nn.Linear(style_dim, style_dim) for _ in range(layers)]
        for layer in linear:
            nn.init.kaiming_normal_(layer.weight, a=SLOPE, nonlinearity="leaky_relu")
            nn.init.zeros_(layer.bias)
        self.layers = nn.ModuleList(linear)

    def forward(self, code: Tensor) -> Tensor:
        x = code * torch.rsqrt(code.square().mean(1, keepdim=True) + EPS)
        for layer in self.layers:
            x = leaky_relu(layer(x), SLOPE)
        return x


class ResBlock(nn.Module):
    """Two convolutions with a change of size between them, and a skip."""

    def __init__(self, inputs: int, outputs: int, factor: float) -> None:
        super().__init__()
        self.factor = factor
        self.conv1 = nn.Conv2d(inputs, inputs, 3, padding=1)
        self.conv2 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.skip = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out = resized(leaky_relu(self.conv1(x), SLOPE), self.factor)
        out = leaky_relu(self.conv2(out), SLOPE)
        return out + cast(Tensor, self.skip(resized(x, self.factor)))
