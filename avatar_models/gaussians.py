"""3D Gaussians as the splatting layer takes them. N Gaussians, C colour channels."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Gaussians:
    """N anisotropic Gaussians in world space (metres), after all activations.

    colors is (N, C) plain channels (1 to 64), or (N, K, 3) spherical-harmonic coefficients with K = (degree + 1)^2.
    """

    means: Tensor  # (N, 3) metres
    quats: Tensor  # (N, 4) wxyz, any norm but zero
    scales: Tensor  # (N, 3) metres, positive
    opacities: Tensor  # (N,) in [0, 1]
    colors: Tensor  # (N, C) or (N, K, 3)

    def __len__(self) -> int:
        return len(self.means)
