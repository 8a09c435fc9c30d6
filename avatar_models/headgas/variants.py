"""The method, its rigged successor and its ablations: each says how a condition becomes Gaussians, in one pass.

A variant states the sizes of what it needs, the model holds the parameters. N Gaussians, E expression values, D features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from avatar_models.blending import Blend
from avatar_models.gaussians import Gaussians

if TYPE_CHECKING:
    from avatar_models.headgas.model import HeadGas, HeadGasSizes

POSITION_STEP = 0.05
"""A unit of the MLP's output moves a mean by this share of the head's extent: its other outputs are of the order of one."""


@dataclass(frozen=True)
class Widths:
    """Sizes of what a variant needs."""

    basis: int
    """Columns of the basis F per Gaussian; 0 where nothing is blended."""
    feature: int
    """Of the per-Gaussian feature f0."""
    inputs: int
    outputs: int
    """Of the MLP phi; 0 where there is none."""
    motion: int = 0
    """Columns of the surface's motion per Gaussian."""


def of_the_method(sizes: HeadGasSizes, *, beside_appearance: int = 0, motion: int = 0) -> Widths:
    """Widths of equations 3 and 4, with more outputs of phi than colour and opacity where those are asked for."""
    inputs, outputs = sizes.feature_dim + sizes.psi_width, sizes.appearance_width + beside_appearance
    return Widths(sizes.feature_dim, sizes.feature_dim, inputs, outputs, motion)


class Variant(Protocol):
    """How e_i becomes Gaussians."""

    def widths(self, sizes: HeadGasSizes) -> Widths:
        """What the model has to hold for it."""
        ...

    def gaussians(self, model: HeadGas, condition: Tensor, blend: Blend) -> Gaussians:
        """Gaussians for a condition (E,)."""
        ...


@dataclass(frozen=True)
class Full:
    """Equations 3 and 4: f_i = F^T e_i + f_0, and c_i, alpha_i = phi(f_i, psi(mu))."""

    def widths(self, sizes: HeadGasSizes) -> Widths:
        return of_the_method(sizes)

    def gaussians(self, model: HeadGas, condition: Tensor, blend: Blend) -> Gaussians:
        return model.shaded(model.phi(torch.cat([model.blended(model.weights(condition), blend), *model.psi(model.mu)], 1)))


@dataclass(frozen=True)
class Rigged:
    """Beyond the paper: Gaussians ride on the tracked surface, and an expression has little say where that hardly moves.

    mu_i + M_i^T c for the condition c, M_i the surface's motion at the Gaussian; f_i = r_i F^T e_i + f_0 with r_i in
    [LEAST_LOCALITY, 1]. What was tracked is right about new expressions too; what was learned of them need not be.
    """

    def widths(self, sizes: HeadGasSizes) -> Widths:
        return of_the_method(sizes, motion=3)

    def gaussians(self, model: HeadGas, condition: Tensor, blend: Blend) -> Gaussians:
        changed = blend(model.weights(condition), model.F).reshape(model.f0.shape)
        f = model.locality[:, None] * changed + model.f0
        means = model.mu + (condition @ model.motion).reshape(-1, 3)
        return model.shaded(model.phi(torch.cat([f, *model.psi(model.mu)], 1)), means=means)


@dataclass(frozen=True)
class NoBlending:
    """ "w/o blending": the expression goes straight into the MLP beside each Gaussian's own feature."""

    def widths(self, sizes: HeadGasSizes) -> Widths:
        return Widths(0, sizes.feature_dim, sizes.feature_dim + sizes.condition_size + sizes.psi_width, sizes.appearance_width)

    def gaussians(self, model: HeadGas, condition: Tensor, blend: Blend) -> Gaussians:
        same = model.weights(condition).expand(len(model.mu), -1)
        return model.shaded(model.phi(torch.cat([model.f0, same, *model.psi(model.mu)], 1)))


@dataclass(frozen=True)
class DeltaGeometry:
    """ "+ delta(mu, R)": the MLP also moves and turns each Gaussian."""

    def widths(self, sizes: HeadGasSizes) -> Widths:
        return of_the_method(sizes, beside_appearance=3 + 4)

    def gaussians(self, model: HeadGas, condition: Tensor, blend: Blend) -> Gaussians:
        out = model.phi(torch.cat([model.blended(model.weights(condition), blend), *model.psi(model.mu)], 1))
        appearance, d_mu, d_quats = out.split([model.sizes.appearance_width, 3, 4], 1)
        means = model.mu + POSITION_STEP * model.extent * d_mu
        return model.shaded(appearance, means=means, quats=model.quats + d_quats)


@dataclass(frozen=True)
class ChangeAll:
    """ "Change all": the MLP also moves, turns and scales each Gaussian."""

    def widths(self, sizes: HeadGasSizes) -> Widths:
        return of_the_method(sizes, beside_appearance=3 + 4 + 3)

    def gaussians(self, model: HeadGas, condition: Tensor, blend: Blend) -> Gaussians:
        out = model.phi(torch.cat([model.blended(model.weights(condition), blend), *model.psi(model.mu)], 1))
        appearance, d_mu, d_quats, d_scales = out.split([model.sizes.appearance_width, 3, 4, 3], 1)
        means = model.mu + POSITION_STEP * model.extent * d_mu
        log_scales = model.log_scales + d_scales
        return model.shaded(appearance, means=means, quats=model.quats + d_quats, log_scales=log_scales)


@dataclass(frozen=True)
class NoMlp:
    """ "w/o MLP": the blended basis is colour and opacity itself."""

    def widths(self, sizes: HeadGasSizes) -> Widths:
        return Widths(sizes.appearance_width, 0, 0, 0)

    def gaussians(self, model: HeadGas, condition: Tensor, blend: Blend) -> Gaussians:
        return model.shaded(blend(model.weights(condition), model.F).reshape(len(model.mu), -1))


VARIANTS: dict[str, Variant] = {
    "full": Full(),
    "rigged": Rigged(),
    "no_blending": NoBlending(),
    "delta_geometry": DeltaGeometry(),
    "change_all": ChangeAll(),
    "no_mlp": NoMlp(),
}
