"""3D Gaussians as the splatting layer takes them. N Gaussians, C colour channels."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Gaussians:
    """N anisotropic Gaussians in world space (metres), after all activations.

    Their shape is given by quats and scales, or by covariances in their place. colors is (N, C) plain channels (1 to
    64), or (N, K, 3) spherical-harmonic coefficients with K = (degree + 1)^2.
    """

    means: Tensor  # (N, 3) metres
    quats: Tensor | None  # (N, 4) wxyz, any norm but zero
    scales: Tensor | None  # (N, 3) metres, positive
    opacities: Tensor  # (N,) in [0, 1]
    colors: Tensor  # (N, C) or (N, K, 3)
    covariances: Tensor | None = None  # (N, 3, 3) square metres

    def __len__(self) -> int:
        return len(self.means)
