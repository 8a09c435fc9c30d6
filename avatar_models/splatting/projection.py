"""EWA projection of 3D Gaussians to the screen, and spherical harmonics: plain torch, any device, any float type."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from avatar_models.cameras import Camera
from avatar_models.gaussians import Gaussians
from avatar_models.rotations import quaternion_to_matrix

EPS2D = 0.3  # px^2 added to the screen covariance, so that no Gaussian is thinner than a pixel
ALPHA_MIN = 1.0 / 255.0
MAX_EXTENT = 3.33  # standard deviations; beyond it a Gaussian of opacity 1 is below ALPHA_MIN


@dataclass(frozen=True)
class Projected:
    """N Gaussians on the screen of one camera."""

    means2d: Tensor  # (N, 2) pixels
    conics: Tensor  # (N, 3) upper triangle of the inverse screen covariance
    depths: Tensor  # (N,) metres
    opacities: Tensor  # (N,)
    colors: Tensor  # (N, C)
    radii: Tensor  # (N, 2) int32 half extents in pixels, 0 where not seen


def covariances_of(gaussians: Gaussians) -> Tensor:
    """Sigma = R S S^T R^T (3DGS equation 6), (N, 3, 3)."""
    if gaussians.covariances is not None:
        return gaussians.covariances
    assert gaussians.quats is not None and gaussians.scales is not None
    M = quaternion_to_matrix(gaussians.quats) * gaussians.scales[:, None]
    return M @ M.mT


def project_gaussians(
    gaussians: Gaussians, camera: Camera, index: int, *, near: float, far: float, radius_clip: float, antialiased: bool
) -> Projected:
    """Projects all Gaussians to the screen of camera `index`: Sigma' = J W Sigma W^T J^T + 0.3 I (3DGS equation 5)."""
    K, viewmat = camera.K[index], camera.viewmat[index]
    W, t = viewmat[:3, :3], viewmat[:3, 3]
    x, y, z = (gaussians.means @ W.mT + t).unbind(-1)
    seen = (z >= near) & (z <= far)
    z = torch.where(seen, z, torch.ones_like(z))
    fx, fy, cx, cy = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
    means2d = torch.stack([fx * x / z + cx, fy * y / z + cy], -1)

    # Far outside the picture the linearisation explodes; gsplat clamps its place to 15 % beyond the border.
    limit_x, limit_y = 0.15 * camera.width / fx, 0.15 * camera.height / fy
    tx = z * (x / z).clamp(-cx / fx - limit_x, (camera.width - cx) / fx + limit_x)
    ty = z * (y / z).clamp(-cy / fy - limit_y, (camera.height - cy) / fy + limit_y)
    zero = torch.zeros_like(z)
    J = torch.stack([fx / z, zero, -fx * tx / z**2, zero, fy / z, -fy * ty / z**2], -1).reshape(-1, 2, 3)
    JW = J @ W
    cov = JW @ covariances_of(gaussians) @ JW.mT
    a, b, c = cov[:, 0, 0], 0.5 * (cov[:, 0, 1] + cov[:, 1, 0]), cov[:, 1, 1]
    before = a * c - b * b
    a, c = a + EPS2D, c + EPS2D
    det = a * c - b * b
    seen = seen & (det > 0)
    det = torch.where(seen, det, torch.ones_like(det))
    conics = torch.stack([c / det, -b / det, a / det], -1)
    opacities = gaussians.opacities
    if antialiased:
        opacities = opacities * (before / det).clamp_min(0.0).sqrt()

    with torch.no_grad():
        reach = (2.0 * torch.log((opacities / ALPHA_MIN).clamp_min(1e-12))).clamp_min(0.0).sqrt().clamp_max(MAX_EXTENT)
        radii = torch.stack([(reach * a.clamp_min(0).sqrt()).ceil(), (reach * c.clamp_min(0).sqrt()).ceil()], -1)
        inside = (
            (means2d[:, 0] + radii[:, 0] > 0)
            & (means2d[:, 0] - radii[:, 0] < camera.width)
            & (means2d[:, 1] + radii[:, 1] > 0)
            & (means2d[:, 1] - radii[:, 1] < camera.height)
        )
        visible = seen & inside & (opacities >= ALPHA_MIN) & (radii.amax(1) > radius_clip)
        radii = torch.where(visible[:, None], radii.clamp_max(1e6), torch.zeros_like(radii)).to(torch.int32)

    colors = gaussians.colors
    if colors.ndim == 3:
        centre = -W.mT @ t
        colors = sh_colors(colors, torch.nn.functional.normalize(gaussians.means - centre, dim=-1))
    return Projected(means2d, conics, z, opacities, colors, radii)


def sh_colors(coefficients: Tensor, directions: Tensor) -> Tensor:
    """Colours (N, 3) of SH coefficients (N, K, 3) seen along unit directions (N, 3); 0.5 is added, negatives cut off.

    Real spherical harmonics in 3DGS's order and signs.
    """
    x, y, z = directions[:, None].unbind(-1)
    c = coefficients.unbind(1)
    value = 0.28209479177387814 * c[0]
    if len(c) > 1:
        value = value + 0.4886025119029199 * (-y * c[1] + z * c[2] - x * c[3])
    if len(c) > 4:
        value = (
            value
            + 1.0925484305920792 * (x * y * c[4] - y * z * c[5] - x * z * c[7])
            + 0.31539156525252005 * (2 * z * z - x * x - y * y) * c[6]
            + 0.5462742152960396 * (x * x - y * y) * c[8]
        )
    if len(c) > 9:
        value = (
            value
            - 0.5900435899266435 * y * (3 * x * x - y * y) * c[9]
            + 2.890611442640554 * x * y * z * c[10]
            - 0.4570457994644658 * y * (4 * z * z - x * x - y * y) * c[11]
            + 0.3731763325901154 * z * (2 * z * z - 3 * x * x - 3 * y * y) * c[12]
            - 0.4570457994644658 * x * (4 * z * z - x * x - y * y) * c[13]
            + 1.445305721320277 * z * (x * x - y * y) * c[14]
            - 0.5900435899266435 * x * (x * x - 3 * y * y) * c[15]
        )
    return (value + 0.5).clamp_min(0.0)
