"""What a neural head learns of registered scans (MonoNPHM's supplement; weights of its released code).

Lengths in the terms are the model's units, a quarter of a metre, as the weights expect. B scans, N points on the surface, U around
the head, A anchors.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from avatar_models.heads.nphm.model import UNITS, Codes, Nphm

FAR = 10.0
"""How fast the off-surface term falls with the distance: a tenth of a unit is far."""
HYPER_NEUTRAL = 10.0
"""A neutral face needs no hyper coordinates: there they cost so much more."""


@dataclass(frozen=True)
class Scans:
    """Points of B registered scans, metres in the head's frame."""

    surface: Tensor  # (B, N, 3) on the posed surface
    normals: Tensor  # (B, N, 3) unit, outwards
    rest: Tensor  # (B, N, 3) the same points on the person's neutral face
    around: Tensor  # (B, U, 3) anywhere around the head
    anchors: Tensor  # (B, A, 3) of the neutral face
    neutral: Tensor  # (B,) bool: the scans of neutral faces


@dataclass(frozen=True)
class Weights:
    """Of the terms."""

    surface: float = 1.0
    normals: float = 0.3
    eikonal: float = 0.15
    off_surface: float = 0.01
    correspondence: float = 1000.0
    anchors: float = 7.5
    hyper: float = 0.05
    offset: float = 0.0025  # of points around the head: where nothing is known the field stays as it is
    neutral: float = 0.001  # of points on neutral faces
    identity: float = 0.01
    expression: float = 0.05
    symmetry: float = 0.01


def losses(model: Nphm, codes: Codes, scans: Scans, weights: Weights) -> dict[str, Tensor]:
    """All terms as they stand in the sum, and `loss`, their sum. Each is a mean over the batch."""
    count = scans.surface.shape[1]
    points = torch.cat([scans.surface, scans.around], 1)
    sdf, gradient = model.sdf_and_gradient(points, codes)
    places = model.at_rest(points, codes)
    x_rest, hyper = places[..., :3], places[..., 3:]
    offset = UNITS * (x_rest - points)
    on, around = UNITS * sdf[:, :count], UNITS * sdf[:, count:]
    neutral = scans.neutral.to(sdf.dtype)[:, None]
    terms = {
        "surface": weights.surface * on.abs().mean(),
        "normals": weights.normals * (gradient[:, :count] - scans.normals).norm(dim=2).mean(),
        "eikonal": weights.eikonal * (gradient.norm(dim=2) - 1).square().mean(),
        "off_surface": weights.off_surface * torch.exp(-FAR * around.abs()).mean(),
        "correspondence": weights.correspondence * (UNITS * (x_rest[:, :count] - scans.rest)).square().mean(),
        "anchors": weights.anchors * (UNITS * (model.anchors(codes.geometry) - scans.anchors)).square().mean(),
        "hyper": weights.hyper * (hyper.abs().mean(2) * (1 + HYPER_NEUTRAL * neutral)).mean() if hyper.shape[2] else on.new_zeros(()),
        "offset": weights.offset * offset[:, count:].square().mean(),
        "neutral": weights.neutral * (neutral * offset[:, :count].square().mean(2)).mean(),
        "identity": weights.identity * codes.geometry.square().sum(1).mean(),
        "expression": weights.expression * codes.expression.square().sum(1).mean(),
        "symmetry": weights.symmetry * asymmetry(model, codes.geometry).mean(),
    }  # fmt: skip
    return {"loss": torch.stack(list(terms.values())).sum(), **terms}


def asymmetry(model: Nphm, geometry: Tensor) -> Tensor:
    """How far the local codes of both sides' regions differ, (B,), of identities (B, D): mean squares."""
    sizes = model.sizes
    pairs = geometry[:, sizes.global_code :].unflatten(1, (sizes.num_regions, -1))[:, : 2 * sizes.num_pairs]
    return (pairs[:, 0::2] - pairs[:, 1::2]).square().mean((1, 2))
