"""An NPGA: canonical Gaussians, what moves them, and how they are drawn (NPGA, section 3).

N Gaussians, E values of an expression's code, H latent channels. Metres, the neural head's frame.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from avatar_models.cameras import Camera
from avatar_models.gaussians import Gaussians
from avatar_models.headgas.model import nearest_distances
from avatar_models.heads.nphm.forward import OFFSET_M, ForwardField, mlp
from avatar_models.heads.nphm.model import UNITS
from avatar_models.npga.screen import ScreenNet
from avatar_models.npga.sizes import NpgaSizes
from avatar_models.rotations import multiply_quaternions
from avatar_models.splatting import Splats, splat

TURN = 0.1
"""Half radians that a Gaussian turns by where G says one."""
JOINTS = 9
"""Values of a condition behind the expression's: jaw and eyes, which a neural head does not have."""


@dataclass(frozen=True)
class Moved:
    """The Gaussians of one expression, and by how much they differ from the canonical ones."""

    gaussians: Gaussians  # colours have 3 + H channels
    coarse: Tensor  # (N, 3) metres, of F
    detail: dict[str, Tensor]  # of G, by attribute, (N, ...); nothing where there is no G


class Npga(nn.Module):
    """A_p = A_c + delta_F + delta_G, each attribute by its own operation: positions, colours and latents are added, scales and
    opacities are added as logarithm and logit, rotations are composed."""

    def __init__(self, sizes: NpgaSizes) -> None:
        super().__init__()
        n = sizes.num_gaussians
        self.sizes = sizes
        self.condition_size = sizes.field.expression_code + JOINTS
        self.mu = nn.Parameter(torch.zeros(n, 3))
        self.log_scales = nn.Parameter(torch.zeros(n, 3))
        self.quats = nn.Parameter(torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(n, 1))
        self.logits = nn.Parameter(torch.zeros(n))  # of opacities
        self.colors = nn.Parameter(torch.full((n, 3), 0.5))
        self.latents = nn.Parameter(torch.zeros(n, sizes.latent_dim))
        self.features = nn.Parameter(torch.zeros(n, sizes.field.feature_dim))
        self.F = ForwardField(sizes.field)
        read = sizes.field.feature_dim if sizes.features else 0
        self.G = mlp(3 + read + sizes.field.expression_code, sizes.hidden, sizes.layers, self._detail_width)
        if not sizes.detail:
            self.G = nn.Sequential()
        self.screen = ScreenNet(sizes.num_channels, sizes.screen_width) if sizes.screen_width else None

    @property
    def _detail(self) -> dict[str, int]:
        """Attributes that G changes, and their widths."""
        return {"mu": 3, "quats": 3, "log_scales": 3, "logits": 1, "colors": 3, "latents": self.sizes.latent_dim}

    @property
    def _detail_width(self) -> int:
        return sum(self._detail.values())

    @torch.no_grad()
    def initialise(self, points: Tensor, colors: Tensor, features: Tensor, field: ForwardField) -> None:
        """Places Gaussians at points (N, 3) of the surface at rest, with colours (N, 3) in [0, 1] and features (N, f)."""
        self.mu.copy_(points)
        self.log_scales.copy_(nearest_distances(points).clamp(1e-4, 0.02).log()[:, None].expand(-1, 3))
        self.colors.copy_(colors)
        self.features.copy_(features)
        self.F.load_state_dict(field.state_dict())

    def moved(self, expression: Tensor) -> Moved:
        """The Gaussians of an expression's code (E,)."""
        coarse = self.F(self.mu[None], self.f[None], expression[None])[0]
        if not len(self.G):
            shown = Gaussians(self.mu + coarse, self.quats, self.log_scales.exp(), torch.sigmoid(self.logits), self.channels)
            return Moved(shown, coarse, {})
        z = (expression / self.F.spread).expand(len(self.mu), -1)
        own = [self.f] if self.sizes.features else []
        out = self.G(torch.cat([UNITS * self.mu, *own, z], 1))
        detail = dict(zip(self._detail, out.split(list(self._detail.values()), 1), strict=True))
        means = self.mu + coarse + OFFSET_M * detail["mu"]
        half_turn = torch.cat([torch.ones_like(out[:, :1]), TURN * detail["quats"]], 1)  # a quaternion, not of length one
        gaussians = Gaussians(
            means,
            multiply_quaternions(half_turn, self.quats),
            (self.log_scales + detail["log_scales"]).exp(),
            torch.sigmoid(self.logits + detail["logits"][:, 0]),
            self.channels + torch.cat([detail["colors"], detail["latents"]], 1),
        )
        return Moved(gaussians, coarse, detail)

    @property
    def f(self) -> Tensor:
        """(N, f) the features; nothing is learned of them where Gaussians have none of their own."""
        return self.features if self.sizes.features else self.features.detach()

    @property
    def channels(self) -> Tensor:
        """(N, 3 + H) canonical colours and latents."""
        return torch.cat([self.colors, self.latents], 1)

    def gaussians(self, condition: Tensor) -> Gaussians:
        """The Gaussians of a condition (E + 9,), whose last nine values say nothing here."""
        return self.moved(condition[: self.sizes.field.expression_code]).gaussians

    @torch.no_grad()
    def each(self, conditions: Tensor) -> Iterator[Gaussians]:
        """The Gaussians of conditions (B, E + 9), one after the other."""
        for condition in conditions:
            yield self.gaussians(condition)

    def splatted(self, gaussians: Gaussians, camera: Camera, background: Tensor) -> Splats:
        """All channels (1, 3 + H, h, w), the colours over a background (3,), the latents over nothing."""
        behind = torch.cat([background, background.new_zeros(self.sizes.latent_dim)])
        return splat(gaussians, camera, behind)

    def refined(self, image: Tensor) -> Tensor:
        """RGB (B, 3, h, w) of splatted channels (B, 3 + H, h, w)."""
        if self.screen is None:
            return image[:, :3]
        found: Tensor = self.screen(image)
        return found

    def draw(self, gaussians: Gaussians, camera: Camera, background: Tensor) -> Tensor:
        """The picture (1, 3, h, w)."""
        return self.refined(self.splatted(gaussians, camera, background).image)

    def per_gaussian(self) -> dict[str, nn.Parameter]:
        """The parameters with a row per Gaussian."""
        names = ("mu", "log_scales", "quats", "logits", "colors", "latents", "features")
        return {name: getattr(self, name) for name in names}

    def recount(self) -> None:
        """The number of Gaussians is read off the means, after density control has changed it."""
        self.sizes = replace(self.sizes, num_gaussians=len(self.mu))

    def tensors(self) -> dict[str, Tensor]:
        """All that is saved."""
        return dict(self.state_dict())

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], sizes: Mapping[str, Any]) -> Npga:
        """The avatar that `tensors()` and `sizes.as_dict()` describe."""
        model = cls(NpgaSizes.from_dict(sizes))
        model.load_state_dict(dict(tensors))
        return model
