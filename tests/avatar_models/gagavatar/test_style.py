"""StyleGAN2's layers, judged by their formulas."""

from __future__ import annotations

import torch
from torch.nn.functional import conv2d

from avatar_models.gagavatar.renderer import StyleUNet
from avatar_models.gagavatar.style import EPS, ModulatedConv, StyleMlp
from tests.avatar_models.gagavatar.tiny import SIDE, TINY


def test_modulation_and_demodulation_are_those_of_the_weights() -> None:
    """Karras et al. 2020, equations 1 and 3: w' = s w, w'' = w' / sqrt(sum w'^2), a weight of its own for each picture."""
    torch.manual_seed(0)
    conv = ModulatedConv(3, 4, 3, 5, demodulate=True).double()
    x, style = torch.randn(2, 3, 8, 8, dtype=torch.float64), torch.randn(2, 5, dtype=torch.float64)
    for k in range(2):
        w = conv.weight * conv.modulation(style[k])[None, :, None, None]
        w = w / (w.square().sum((1, 2, 3), keepdim=True) + EPS).sqrt()
        torch.testing.assert_close(conv(x, style)[k : k + 1], conv2d(x[k : k + 1], w, padding=1))


def test_a_picture_is_made_as_if_it_were_alone() -> None:
    torch.manual_seed(0)
    assert TINY.renderer is not None
    net = StyleUNet(TINY.feature_dim, TINY.renderer)
    features = torch.randn(3, TINY.feature_dim, SIDE, SIDE)
    together = net(features)
    assert together.shape == (3, 3, SIDE, SIDE) and together.min() >= 0 and together.max() <= 1
    torch.testing.assert_close(together[1:2], net(features[1:2]))


def test_the_size_of_a_code_does_not_matter() -> None:
    mlp, code = StyleMlp(6, 2), torch.randn(2, 6)
    torch.testing.assert_close(mlp(code), mlp(7 * code))


def test_a_renderer_on_the_coarse_picture_shows_that_until_it_has_learned_otherwise() -> None:
    assert TINY.renderer is not None
    net = StyleUNet(TINY.feature_dim, TINY.renderer, on_coarse=True)
    features = torch.rand(2, TINY.feature_dim, SIDE, SIDE)
    torch.testing.assert_close(net(features), features[:, :3].clamp(0.01, 0.99))
    features.requires_grad_()
    net(features).square().sum().backward()
    learned = [rgb.conv.weight.grad for rgb in (net.decoder.first_rgb, *net.decoder.rgbs)]
    assert all(gradient is not None and float(gradient.abs().max()) > 0 for gradient in learned)
