"""3D Gaussians as the splatting layer takes them. N Gaussians, C colour channels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Gaussians:
    """N anisotropic Gaussians in world space (metres), after all activations.

    Their shape is given by quats and scales, or by covariances in their place. colors is (N, C) plain channels (1 to
    64), or (N, K, 3) spherical-harmonic coefficients with K = (degree + 1)^2.
    """

    means: Tensor  # (N, 3) metres
    quats: Tensor | None  # (N, 4) wxyz, of any length from 1e-18 to 1e18
    scales: Tensor | None  # (N, 3) metres, positive
    opacities: Tensor  # (N,) in [0, 1]
    colors: Tensor  # (N, C) or (N, K, 3)
    covariances: Tensor | None = None  # (N, 3, 3) square metres

    def __len__(self) -> int:
        return len(self.means)


def half_turn_about_x(gaussians: Gaussians) -> Gaussians:
    """The same Gaussians with y and z turned to -y and -z: from y up, as heads are, to y down, as 3DGS viewers expect.

    Takes Gaussians with quats and scales. A harmonic keeps or changes its sign as its polynomial does.
    """
    if gaussians.quats is None:
        raise ValueError("only Gaussians with quats and scales can be turned")
    w, x, y, z = gaussians.quats.unbind(-1)
    quats = torch.stack([-x, w, -z, y], -1)  # (0, 1, 0, 0) times the quaternion
    means = gaussians.means * gaussians.means.new_tensor([1.0, -1.0, -1.0])
    colors = gaussians.colors
    if colors.ndim == 3:
        signs = colors.new_tensor([1, -1, -1, 1, -1, 1, 1, -1, 1, -1, 1, -1, -1, 1, -1, 1])  # of Y_k(x, -y, -z) / Y_k(x, y, z)
        colors = colors * signs[: colors.shape[1], None]
    return Gaussians(means, quats, gaussians.scales, gaussians.opacities, colors)
