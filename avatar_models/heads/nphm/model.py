"""The neural head in metres: codes to a posed signed distance, its normals and colours, and anchors.

B people, N points in the head's frame, A anchors, D values of an identity's or appearance's code, E of an expression's.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from avatar_models.heads.nphm.canonical import Canonical
from avatar_models.heads.nphm.deformation import Deformation
from avatar_models.heads.nphm.sizes import NphmSizes

UNITS = 4.0
"""The fields' units in a metre; the frame is the head's, which is FLAME's."""


@dataclass(frozen=True)
class Codes:
    """What B heads are. Zeros are the mean of what was trained on."""

    geometry: Tensor  # (B, D)
    appearance: Tensor  # (B, D)
    expression: Tensor  # (B, E)


class Nphm(nn.Module):
    """MonoNPHM (Giebenhain et al., CVPR 2024): a backward deformation, and fields of the head at rest.

    Mean anchors (A, 3) are in metres. Raises ValueError where they do not fit to the sizes.
    """

    def __init__(self, sizes: NphmSizes, mean_anchors: Tensor) -> None:
        super().__init__()
        self.sizes = sizes
        self.canonical = Canonical(sizes, UNITS * mean_anchors)
        self.deformation = Deformation(sizes)

    def zero_codes(self, count: int) -> Codes:
        """The codes that training starts from."""
        mean = self.canonical.mean_anchors
        code = mean.new_zeros(count, self.sizes.identity_code)
        return Codes(code, code, mean.new_zeros(count, self.sizes.expression_code))

    def anchors(self, geometry: Tensor) -> Tensor:
        """Anchors (B, A, 3) of identities (B, D) at rest."""
        return self.canonical.anchors(geometry) / UNITS

    def at_rest(self, points: Tensor, codes: Codes) -> Tensor:
        """Where posed points (B, N, 3) lie on the head at rest: (B, N, 3 + H), hyper coordinates behind x, y, z."""
        places = self._at_rest(points, codes)
        return torch.cat([places[..., :3] / UNITS, places[..., 3:]], 2)

    def sdf(self, points: Tensor, codes: Codes) -> Tensor:
        """Signed distances (B, N), positive outside, of points (B, N, 3) to posed heads."""
        return self.canonical.sdf(self._at_rest(points, codes), codes.geometry) / UNITS

    def sdf_and_color(self, points: Tensor, codes: Codes) -> tuple[Tensor, Tensor]:
        """Signed distances (B, N), and RGB (B, N, 3) with [0, 1] for black to white, which is not held to."""
        sdf, color = self.canonical.sdf_and_color(self._at_rest(points, codes), codes.geometry, codes.appearance)
        return sdf / UNITS, (color + 1) / 2

    def sdf_at_rest(self, points: Tensor, geometry: Tensor, hyper: Tensor | None = None) -> Tensor:
        """Signed distances (B, N) of points (B, N, 3) to heads at rest, at hyper coordinates (B, N, H), zeros if not given."""
        if hyper is None:
            hyper = points.new_zeros(*points.shape[:2], self.sizes.hyper)
        return self.canonical.sdf(torch.cat([UNITS * points, hyper], 2), geometry) / UNITS

    def sdf_and_gradient(self, points: Tensor, codes: Codes) -> tuple[Tensor, Tensor]:
        """Signed distances (B, N) and their gradients (B, N, 3), which on the surface are its normals where lengths are one.

        Where gradients are recorded, those of the gradients are too: a loss may have normals.
        """
        if not torch.is_grad_enabled():
            return self._sdf_and_gradient_alone(points, codes)
        x = points if points.requires_grad else points.detach().requires_grad_()
        sdf = self.sdf(x, codes)
        (gradient,) = torch.autograd.grad(sdf.sum(), x, create_graph=True)
        return sdf, gradient

    def normals(self, points: Tensor, codes: Codes) -> Tensor:
        """Unit normals (B, N, 3) of the level that each point lies on."""
        return torch.nn.functional.normalize(self.sdf_and_gradient(points, codes)[1], dim=2)

    def _sdf_and_gradient_alone(self, points: Tensor, codes: Codes) -> tuple[Tensor, Tensor]:
        """The same where nothing is recorded: the field at rest has a way of its own."""
        with torch.enable_grad():
            x = points.detach().requires_grad_()
            places = self._at_rest(x, codes)
        sdf, at_rest = self.canonical.sdf_and_gradient(places, codes.geometry)
        (gradient,) = torch.autograd.grad(places, x, at_rest)
        return sdf / UNITS, gradient / UNITS

    def _at_rest(self, points: Tensor, codes: Codes) -> Tensor:
        anchors = self.canonical.anchors(codes.geometry)
        places: Tensor = self.deformation(UNITS * points, codes.geometry, anchors, codes.expression)
        return places
