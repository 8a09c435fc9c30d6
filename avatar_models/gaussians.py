"""3D Gaussians as the splatting layer takes them. N Gaussians, C colour channels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Gaussians:
    """N anisotropic Gaussians in world space (metres), after all activations.

    Their shape is given by quats and scales, or by covariances in their place. colors is (N, C) plain channels (1 to
    512), or (N, K, 3) spherical-harmonic coefficients with K = (degree + 1)^2.
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


class UnusableGaussians(ValueError):
    """Gaussians that cannot be drawn; the message names the first one. A training whose weights have grown makes such ones."""


def unusable(gaussians: Gaussians) -> str:
    """Names the first Gaussian with a value that is NaN or infinite, or without a length of its quaternion; or nothing."""
    rows = _rows(gaussians)
    for name, values in rows.items():
        if bool((bad := ~torch.isfinite(values).all(1)).any()):
            return _named(name, values, bad, "are not finite")
    if "quats" in rows:
        length = rows["quats"].square().sum(1)
        if bool((bad := ~torch.isfinite(length + 1 / length)).any()):
            return _named("quats", rows["quats"], bad, "have no length that float32 can divide by")
    return ""


def largest(gaussians: Gaussians) -> str:
    """Names the Gaussian with the largest value, for where sums of finite values overflow."""
    rows = _rows(gaussians)
    name, values = max(rows.items(), key=lambda row: float(row[1].abs().max()))
    return _named(name, values, values.abs().amax(1) == values.abs().max(), "are too large for float32")


def _rows(gaussians: Gaussians) -> dict[str, Tensor]:
    names = ("means", "quats", "scales", "covariances", "opacities", "colors")
    return {name: t.detach().float().reshape(len(t), -1) for name in names if (t := getattr(gaussians, name)) is not None}


def _named(name: str, values: Tensor, bad: Tensor, what: str) -> str:
    index = int(bad.nonzero()[0])
    return f"{name} of Gaussian {index} {what}: {values[index, :4].tolist()}"
