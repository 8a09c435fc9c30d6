"""A HeadGaS in training as density control edits it: all that has a Gaussian axis, with both optimisers' moments."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from avatar_models.blending import RankOneAdam
from avatar_models.densify import Edit
from avatar_models.density_control import moments_of, replaced, shift_to
from avatar_models.headgas.model import HeadGas


@dataclass(frozen=True)
class HeadGasSet:
    """A :class:`avatar_models.density_control.GaussianSet`."""

    model: HeadGas
    optimizer: torch.optim.Adam
    basis: RankOneAdam

    @property
    def extent(self) -> float:
        return float(self.model.extent)

    @torch.no_grad()
    def apply(self, edit: Edit) -> None:
        """Every parameter, F's column blocks, and the moments of both."""
        model, basis = self.model, self.basis
        blocks = (len(model.F), len(model.mu), model.variant.widths(model.sizes).basis)
        for name, old in model.per_gaussian().items():
            setattr(model, name, replaced(edit, old, self.optimizer))
        if model.rides:
            model.motion = edit.apply(model.motion.reshape(len(model.motion), -1, 3), 1).flatten(1)
        model.locality = edit.apply(model.locality)
        model.F = nn.Parameter(edit.apply(model.F.detach().reshape(blocks), 1).flatten(1))
        basis.replace(model.F, *(edit.apply_moment(moment.reshape(blocks), 1).flatten(1) for moment in (basis.m, basis.v)))
        model.recount()

    @torch.no_grad()
    def lower_opacity(self, peak: Tensor, wanted: Tensor) -> None:
        self.model.base[:, -1] += shift_to(peak, wanted)

    @torch.no_grad()
    def forget_opacity(self) -> None:
        for moment in moments_of(self.optimizer, self.model.base):
            moment[:, -1] = 0
