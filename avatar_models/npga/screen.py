"""The network on the rendered picture: it reads colours and latent channels, and changes the colours (NPGA, section 3.3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ScreenNet(nn.Module):
    """Convolutions at the picture's own size, of which the middle ones look further. None of it changes anything at first."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1), nn.LeakyReLU(0.2),
            nn.Conv2d(width, width, 3, padding=2, dilation=2), nn.LeakyReLU(0.2),
            nn.Conv2d(width, width, 3, padding=4, dilation=4), nn.LeakyReLU(0.2),
            nn.Conv2d(width, 3, 3, padding=1),
        )  # fmt: skip
        last = self.layers[-1]
        assert isinstance(last, nn.Conv2d) and last.bias is not None
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, rendered: Tensor) -> Tensor:
        """Channels (B, 3 + H, h, w), RGB first -> RGB (B, 3, h, w)."""
        changes: Tensor = self.layers(rendered)
        return torch.add(rendered[:, :3], changes)
