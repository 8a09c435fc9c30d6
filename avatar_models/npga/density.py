"""An NPGA in training as density control edits it. Canonical opacities are lowered, and so those of all expressions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from avatar_models.densify import Edit
from avatar_models.density_control import moments_of, replaced, shift_to
from avatar_models.npga.model import Npga


@dataclass(frozen=True)
class NpgaSet:
    """A :class:`avatar_models.density_control.GaussianSet`. The optimiser is that of the Gaussians, not of the networks."""

    model: Npga
    optimizer: torch.optim.Adam
    extent: float  # metres

    @torch.no_grad()
    def apply(self, edit: Edit) -> None:
        for name, old in self.model.per_gaussian().items():
            setattr(self.model, name, replaced(edit, old, self.optimizer))
        self.model.recount()

    @torch.no_grad()
    def lower_opacity(self, peak: Tensor, wanted: Tensor) -> None:
        self.model.logits.add_(shift_to(peak, wanted))

    @torch.no_grad()
    def forget_opacity(self) -> None:
        for moment in moments_of(self.optimizer, self.model.logits):
            moment.zero_()
