"""The parameters of a HeadGaS avatar, and what its variants are made of.

N Gaussians, E expression values, D feature size. Positions, rotations and scales are fixed; each Gaussian has a basis of
features that the expression blends, and a small MLP turns the blend into colour and opacity. Motion comes from
Gaussians that appear and disappear (section 3.2).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from avatar_models.blending import Blend, blend
from avatar_models.cameras import Camera
from avatar_models.gaussians import Gaussians
from avatar_models.headgas.variants import VARIANTS
from avatar_models.splatting import splat

POSITION_RATE = 6.4e-4
"""Learning rate of the means over the head's extent: four times 3DGS's, because runs here are short."""

ROTATION_RATE = 1e-3  # 3DGS's
MIN_SPREAD = 0.1
"""A value that hardly moves in training says little; dividing by its tiny spread would blow up what it does later."""

REACH = 3.0
"""Expressions further out than this many standard deviations of training are drawn in: nothing was learned there."""

FULL_MOTION, LEAST_LOCALITY = 3e-3, 0.1
"""An expression has its full say in how a Gaussian looks where the surface moves by so many metres in training, and this share
of it where nothing moves: hair, ears, the back of the head."""


@dataclass(frozen=True)
class HeadGasSizes:
    """All that fixes the shapes of a HeadGas."""

    num_gaussians: int
    condition_size: int
    feature_dim: int = 32
    hidden_dim: int = 64
    sh_degree: int = 3
    position_frequencies: int = 4
    variant: str = "full"

    @property
    def num_sh(self) -> int:
        return int((self.sh_degree + 1) ** 2)

    @property
    def appearance_width(self) -> int:
        """Colour and opacity of a Gaussian."""
        return 3 * self.num_sh + 1

    @property
    def psi_width(self) -> int:
        return 3 * 2 * self.position_frequencies


class HeadGas(nn.Module):
    """The feature-augmented Gaussians {mu, Sigma, F} of section 3.1 and the MLP phi of equation 4."""

    neutral: Tensor  # (E,) mean condition of training: e is taken from it
    spread: Tensor  # (E,) its standard deviation
    centre: Tensor  # (3,) psi sees positions relative to it
    extent: Tensor  # () metres
    motion: Tensor  # (E, 3 N) metres per unit of a condition, nothing at the start; (E, 0) where nothing rides on the surface
    locality: Tensor  # (N,) how much of the blend counts

    def __init__(self, sizes: HeadGasSizes) -> None:
        super().__init__()
        n, e = sizes.num_gaussians, sizes.condition_size
        self.sizes = sizes
        self.variant = VARIANTS[sizes.variant]
        self.condition_size = e
        self.sh_shown = sizes.sh_degree
        """Degree of the harmonics that are used: training may begin with fewer than there are."""
        self.mu = nn.Parameter(torch.zeros(n, 3))  # metres, head's frame
        self.log_scales = nn.Parameter(torch.zeros(n, 3))
        self.quats = nn.Parameter(torch.zeros(n, 4))
        # The feature basis, zero at the start: a row per expression value, and a block of columns per Gaussian.
        widths, hidden = self.variant.widths(sizes), sizes.hidden_dim
        self.F = nn.Parameter(torch.zeros(e, n * widths.basis))
        self.f0 = nn.Parameter(torch.zeros(n, widths.feature))  # its bias
        layers = [nn.Linear(widths.inputs, hidden), nn.ReLU(), nn.Linear(hidden, widths.outputs)] if widths.outputs else []
        self.phi = nn.Sequential(*layers)
        # Per-Gaussian offsets of colour and opacity let 2,500 points start as a coloured head, not as MLP noise.
        self.base = nn.Parameter(torch.zeros(n, sizes.appearance_width))
        self.register_buffer("neutral", torch.zeros(e))
        self.register_buffer("spread", torch.ones(e))
        self.register_buffer("centre", torch.zeros(3))
        self.register_buffer("extent", torch.ones(()))
        self.register_buffer("motion", torch.zeros(e, n * widths.motion))
        self.register_buffer("locality", torch.ones(n))

    @property
    def rides(self) -> bool:
        """Whether Gaussians follow a surface: :meth:`ride_on` says how it moves."""
        return self.motion.numel() > 0

    def gaussians(self, condition: Tensor, blend: Blend = blend) -> Gaussians:
        """Gaussians in the head's frame for one condition (E,)."""
        return self.variant.gaussians(self, condition, blend)

    def each(self, conditions: Tensor) -> Iterator[Gaussians]:
        """The Gaussians of conditions (B, E), one after the other."""
        return (self.gaussians(condition) for condition in conditions)

    def draw(self, gaussians: Gaussians, camera: Camera, background: Tensor) -> Tensor:
        """The picture (1, 3, H, W): splatting is all."""
        return splat(gaussians, camera, background).image

    def blended(self, e: Tensor, blend: Blend) -> Tensor:
        """(N, D) features f_i = F^T e_i + f_0 (equation 3)."""
        return blend(e, self.F).reshape(self.f0.shape) + self.f0

    def shaded(
        self,
        offsets: Tensor,
        *,
        means: Tensor | None = None,
        quats: Tensor | None = None,
        log_scales: Tensor | None = None,
    ) -> Gaussians:
        """Gaussians with offsets (N, 3 SH + 1) of colour and opacity, and the model's own shape where none is given."""
        colors, opacities = (offsets + self.base).split([3 * self.sizes.num_sh, 1], 1)
        shown = (self.sh_shown + 1) ** 2
        return Gaussians(
            self.mu if means is None else means,
            self.quats if quats is None else quats,
            (self.log_scales if log_scales is None else log_scales).exp(),
            torch.sigmoid(opacities[:, 0]),
            colors[:, : 3 * shown].reshape(len(colors), shown, 3),
        )

    def weights(self, condition: Tensor) -> Tensor:
        """e_i (E,): a condition in standard deviations of training, held within what was seen there."""
        return ((condition - self.neutral) / self.spread).clamp(-REACH, REACH)

    def psi(self, mu: Tensor) -> tuple[Tensor, Tensor]:
        """Positional encoding, 2 x (N, 3 L): sines and cosines of 2^l pi x, x = mu over the head's extent."""
        x = (mu - self.centre) / self.extent
        frequencies = math.pi * 2.0 ** torch.arange(self.sizes.position_frequencies, device=mu.device, dtype=mu.dtype)
        angles = (x[:, None] * frequencies[:, None]).flatten(1)
        return torch.sin(angles), torch.cos(angles)

    @torch.no_grad()
    def initialise(self, points: Tensor, colors: Tensor, conditions: Tensor) -> None:
        """Places the Gaussians at points (N, 3) with colours (N, 3) in [0, 1], for training conditions (T, E)."""
        spacing = nearest_distances(points).clamp(1e-4, 0.02)
        self.mu.copy_(points)
        self.log_scales.copy_(spacing.log()[:, None].expand(-1, 3))
        self.quats.copy_(torch.tensor([1.0, 0.0, 0.0, 0.0]))
        self.base[:, :3] = (colors - 0.5) / 0.28209479177387814  # the SH of degree 0 that shows this colour
        self.base[:, -1] = 0.0  # sigmoid(0): half opaque
        for parameter in self.phi[2:].parameters():
            parameter.zero_()
        self.f0.normal_(0.0, 0.1)
        self.neutral.copy_(conditions.mean(0))
        self.spread.copy_(conditions.std(0, unbiased=False).clamp_min(MIN_SPREAD))
        self.centre.copy_(points.mean(0))
        self.extent.copy_((points - self.centre).abs().max() * 2)

    @torch.no_grad()
    def ride_on(self, motion: Tensor) -> None:
        """Lets the Gaussians follow a surface: their motion (E, N, 3) in metres per unit of each condition value.

        To be called after :meth:`initialise`, which knows how far each value goes in training.
        """
        moved = (motion * self.spread[:, None, None]).square().sum((0, 2)).sqrt()
        self.motion.copy_(motion.flatten(1))
        self.locality.copy_((moved / FULL_MOTION).clamp(LEAST_LOCALITY, 1.0))

    def per_gaussian(self) -> dict[str, nn.Parameter]:
        """The parameters with a row per Gaussian: all but F, which has a block of columns, and the MLP."""
        return {"mu": self.mu, "log_scales": self.log_scales, "quats": self.quats, "f0": self.f0, "base": self.base}

    def recount(self) -> None:
        """The number of Gaussians is read off the means, after density control has changed it."""
        self.sizes = replace(self.sizes, num_gaussians=len(self.mu))

    def tensors(self) -> dict[str, Tensor]:
        """All that is saved."""
        return dict(self.state_dict())

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], sizes: Mapping[str, Any]) -> HeadGas:
        """The avatar that `tensors()` and `asdict(sizes)` describe."""
        model = cls(HeadGasSizes(**sizes))
        model.load_state_dict(dict(tensors))
        return model

    def sizes_as_dict(self) -> dict[str, Any]:
        return asdict(self.sizes)


def nearest_distances(points: Tensor, neighbours: int = 3, chunk: int = 1024) -> Tensor:
    """Root mean square distance (N,) of each point (N, 3) to its nearest neighbours: 3DGS's first scale."""
    found = []
    for start in range(0, len(points), chunk):
        distances = torch.cdist(points[start : start + chunk], points)
        found.append(distances.topk(min(neighbours + 1, len(points)), largest=False).values[:, 1:])
    return torch.cat(found).square().mean(1).sqrt()


def parameter_groups(model: HeadGas, learning_rate: float, extent: float) -> list[dict[str, Any]]:
    """Adam's groups, but for F: 3DGS's rates for the geometry (means scale with the head's extent in metres), ours for the
    rest. F has an optimiser of its own, :class:`avatar_models.blending.RankOneAdam`."""
    return [
        {"params": [model.mu], "lr": POSITION_RATE * extent, "name": "mu"},
        {"params": [model.log_scales], "lr": learning_rate, "name": "scales"},
        {"params": [model.quats], "lr": ROTATION_RATE, "name": "quats"},
        {"params": [model.f0], "lr": learning_rate, "name": "f0"},
        {"params": [model.base], "lr": learning_rate * 2, "name": "base"},
        {"params": list(model.phi.parameters()), "lr": learning_rate * 0.5, "name": "phi"},
    ]
