"""Adaptive density of a HeadGaS while it trains: the rules of :mod:`avatar_models.densify` on all that has a Gaussian axis.

Opacity follows the expression here, so "nearly transparent" is a matter of frames: a Gaussian's opacity is the largest that
it had over the frames since the last edit, which at an edit every 100 steps are the last 100 frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from avatar_models.blending import RankOneAdam
from avatar_models.densify import (
    Edit,
    GrowthRules,
    PruneRules,
    ScreenStats,
    add_views,
    choose_growth,
    clone,
    decay_opacity,
    no_stats,
    prune,
    reset_opacity,
    split,
    split_opacity,
)
from avatar_models.headgas.model import HeadGas
from avatar_models.splatting import Splats


@dataclass(frozen=True)
class DensityRules:
    """When the set of Gaussians changes, in steps, and by which rules."""

    start: int
    stop: int
    every: int
    reset_every: int
    """Steps between hard resets of opacity; 0: none."""
    decay: float
    """Factor of the opacities at each edit; 1: none."""
    growth: GrowthRules
    pruning: PruneRules

    def is_watching(self, step: int) -> bool:
        """Whether screen-space gradients of this step count towards an edit."""
        return self.start - self.every <= step < self.stop

    def is_edit_due(self, step: int) -> bool:
        """Whether the set changes once `step` steps are done."""
        return self.start <= step <= self.stop and step % self.every == 0

    def is_reset_due(self, step: int) -> bool:
        return self.reset_every > 0 and self.start <= step < self.stop and step % self.reset_every == 0


class DensityControl:
    """Watches steps of training and edits the model and its optimisers. All that it knows is in :meth:`state_dict`."""

    def __init__(self, rules: DensityRules, model: HeadGas, seed: int) -> None:
        self.rules = rules
        self.generator = torch.Generator().manual_seed(seed)
        self._forget(model)

    def _forget(self, model: HeadGas) -> None:
        self.stats = no_stats(len(model.mu), device=model.mu.device)
        self.peak = torch.zeros_like(self.stats.largest)  # (N,) largest opacity since the last edit

    @torch.no_grad()
    def watch(self, splats: Splats, opacities: Tensor, width: int, height: int) -> None:
        """Counts one step in, after its backward pass; opacities (N,) are those that were rendered."""
        v_means2d = splats.means2d.grad
        assert v_means2d is not None  # retain_grad was called
        self.stats = add_views(self.stats, v_means2d, splats.radii, width, height)
        self.peak = torch.maximum(self.peak, opacities)

    @torch.no_grad()
    def edit(self, step: int, model: HeadGas, optimizer: torch.optim.Adam, basis: RankOneAdam) -> None:
        """The edit or reset that is due after `step` steps, if any."""
        if self.rules.is_edit_due(step):
            self._grow(model, optimizer, basis)
            self._prune(model, optimizer, basis)
            if self.rules.decay < 1:
                lower_opacity(model, self.peak, torch.sigmoid(decay_opacity(torch.logit(self.peak), self.rules.decay)))
        if self.rules.is_reset_due(step):
            lower_opacity(model, self.peak, torch.sigmoid(reset_opacity(torch.logit(self.peak))))
            for moment in moments_of(optimizer, model.base):
                moment[:, -1] = 0
        if self.rules.is_edit_due(step):
            self._forget(model)

    def _grow(self, model: HeadGas, optimizer: torch.optim.Adam, basis: RankOneAdam) -> None:
        scales = model.log_scales.exp()
        clones, splits = choose_growth(self.stats, scales, float(model.extent), self.rules.growth)
        self._show_as_two(model, clones | splits)
        copied = clone(len(scales), clones)
        self._apply(copied, model, optimizer, basis)
        splits = torch.cat([splits, splits.new_zeros(len(model.mu) - len(splits))])
        halved, means, scales = split(model.mu, model.quats, model.log_scales.exp(), splits, self.generator)
        self._apply(halved, model, optimizer, basis)
        model.mu.copy_(means)
        model.log_scales.copy_(scales.log())

    def _show_as_two(self, model: HeadGas, grows: Tensor) -> None:
        """Two Gaussians in one's place hide what the one did: o -> 1 - sqrt(1 - o) (Rota Bulo et al. 2024, section 3.2)."""
        halved, _ = split_opacity(self.peak.clamp(1e-6, 1 - 1e-6), torch.where(grows, 2, 1))
        lower_opacity(model, self.peak, torch.where(grows, halved, self.peak))
        self.peak = torch.where(grows, halved, self.peak)

    def _prune(self, model: HeadGas, optimizer: torch.optim.Adam, basis: RankOneAdam) -> None:
        kept = prune(self.peak, model.log_scales.exp(), self.stats, float(model.extent), self.rules.pruning)
        if len(kept.source):  # a set without Gaussians could never grow again
            self._apply(kept, model, optimizer, basis)

    def _apply(self, edit: Edit, model: HeadGas, optimizer: torch.optim.Adam, basis: RankOneAdam) -> None:
        apply_edit(edit, model, optimizer, basis)
        seen = self.stats
        power_sum, views, largest = (edit.apply(t) for t in (seen.power_sum, seen.views, seen.largest))
        self.stats = ScreenStats(power_sum, views, largest, seen.exponent)
        self.peak = edit.apply(self.peak)

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs."""
        stats = {"power_sum": self.stats.power_sum, "views": self.stats.views, "largest": self.stats.largest}
        return {**stats, "peak": self.peak, "generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.stats = ScreenStats(state["power_sum"], state["views"], state["largest"], self.stats.exponent)
        self.peak = state["peak"]
        self.generator.set_state(state["generator"].cpu())


@torch.no_grad()
def apply_edit(edit: Edit, model: HeadGas, optimizer: torch.optim.Adam, basis: RankOneAdam) -> None:
    """Makes the edit's set of Gaussians: of every parameter, of F's column blocks, and of both optimisers' moments.

    The parameters are new ones, since autograd remembers the shape that a parameter had in a graph.
    """
    blocks = (len(model.F), len(model.mu), model.variant.widths(model.sizes).basis)
    for name, old in model.per_gaussian().items():
        new = nn.Parameter(edit.apply(old.detach()))
        setattr(model, name, new)
        for group in optimizer.param_groups:
            group["params"] = [new if parameter is old else parameter for parameter in group["params"]]
        state = optimizer.state.pop(old, {})
        optimizer.state[new] = {key: value if key == "step" else edit.apply_moment(value) for key, value in state.items()}
    if model.rides:
        model.motion = edit.apply(model.motion.reshape(len(model.motion), -1, 3), 1).flatten(1)
    model.locality = edit.apply(model.locality)
    model.F = nn.Parameter(edit.apply(model.F.detach().reshape(blocks), 1).flatten(1))
    basis.replace(model.F, *(edit.apply_moment(moment.reshape(blocks), 1).flatten(1) for moment in (basis.m, basis.v)))
    model.recount()


@torch.no_grad()
def lower_opacity(model: HeadGas, peak: Tensor, wanted: Tensor) -> None:
    """Shifts each Gaussian's opacity in all expressions alike, so that its largest (N,) becomes the wanted one (N,)."""
    shift = torch.logit(wanted.clamp(1e-6, 1 - 1e-6)) - torch.logit(peak.clamp(1e-6, 1 - 1e-6))
    model.base[:, -1] += shift


def moments_of(optimizer: torch.optim.Adam, parameter: Tensor) -> list[Tensor]:
    """Adam's moments of a parameter: none before its first step."""
    return [moment for name, moment in optimizer.state[parameter].items() if name != "step"]
