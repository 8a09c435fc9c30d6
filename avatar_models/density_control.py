"""When the Gaussians of an avatar in training multiply and go, by the rules of :mod:`avatar_models.densify`.

Opacity follows the expression in all avatars here, so "nearly transparent" is a matter of frames: a Gaussian's opacity is the
largest that it had over the frames since the last edit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

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
from avatar_models.splatting import Splats


class Shapes(Protocol):
    """Where N Gaussians are, and how they lie."""

    @property
    def mu(self) -> Tensor:
        """(N, 3) metres."""
        ...

    @property
    def quats(self) -> Tensor:
        """(N, 4) wxyz."""
        ...

    @property
    def log_scales(self) -> Tensor:
        """(N, 3)"""
        ...


class GaussianSet(Protocol):
    """What is edited: an avatar's Gaussians with all that has an axis of them, optimisers' moments included. N Gaussians."""

    @property
    def model(self) -> Shapes:
        """The avatar."""
        ...

    @property
    def extent(self) -> float:
        """The head's, metres."""
        ...

    def apply(self, edit: Edit) -> None:
        """Makes the edit's set."""
        ...

    def lower_opacity(self, peak: Tensor, wanted: Tensor) -> None:
        """Shifts each Gaussian's opacity in all expressions alike, so that its largest (N,) becomes the wanted one (N,)."""
        ...

    def forget_opacity(self) -> None:
        """Sets the optimiser's moments of opacities to zero."""
        ...


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
    exponent: float = 1.0
    """Of the mean of the screen-space gradients over the views; see :class:`avatar_models.densify.ScreenStats`."""

    def is_watching(self, step: int) -> bool:
        """Whether screen-space gradients of this step count towards an edit."""
        return self.start - self.every <= step < self.stop

    def is_edit_due(self, step: int) -> bool:
        """Whether the set changes once `step` steps are done."""
        return self.start <= step <= self.stop and step % self.every == 0

    def is_reset_due(self, step: int) -> bool:
        return self.reset_every > 0 and self.start <= step < self.stop and step % self.reset_every == 0


class DensityControl:
    """Watches steps of training and edits the set. All that it knows is in :meth:`state_dict`."""

    def __init__(self, rules: DensityRules, mu: Tensor, seed: int) -> None:
        """mu (N, 3): the means of the first set."""
        self.rules = rules
        self.generator = torch.Generator().manual_seed(seed)
        self._forget(mu)

    def _forget(self, mu: Tensor) -> None:
        self.stats = no_stats(len(mu), self.rules.exponent, device=mu.device)
        self.peak = torch.zeros_like(self.stats.largest)  # (N,) largest opacity since the last edit

    @torch.no_grad()
    def watch(self, splats: Splats, opacities: Tensor, width: int, height: int) -> None:
        """Counts one step in, after its backward pass; opacities (N,) are those that were rendered."""
        v_means2d = splats.means2d.grad
        assert v_means2d is not None  # retain_grad was called
        self.stats = add_views(self.stats, v_means2d, splats.radii, width, height)
        self.peak = torch.maximum(self.peak, opacities)

    @torch.no_grad()
    def edit(self, step: int, gaussians: GaussianSet) -> bool:
        """The edit or reset that is due after `step` steps, if any; whether there was an edit."""
        due = self.rules.is_edit_due(step)
        if due:
            self._grow(gaussians)
            self._prune(gaussians)
            if self.rules.decay < 1:
                wanted = torch.sigmoid(decay_opacity(torch.logit(self.peak), self.rules.decay))
                gaussians.lower_opacity(self.peak, wanted)
        if self.rules.is_reset_due(step):
            gaussians.lower_opacity(self.peak, torch.sigmoid(reset_opacity(torch.logit(self.peak))))
            gaussians.forget_opacity()
        if due:
            self._forget(gaussians.model.mu)
        return due

    def _grow(self, gaussians: GaussianSet) -> None:
        scales = gaussians.model.log_scales.exp()
        clones, splits = choose_growth(self.stats, scales, gaussians.extent, self.rules.growth)
        self._show_as_two(gaussians, clones | splits)
        self._apply(clone(len(scales), clones), gaussians)
        splits = torch.cat([splits, splits.new_zeros(len(gaussians.model.mu) - len(splits))])
        model = gaussians.model
        halved, means, scales = split(model.mu, model.quats, model.log_scales.exp(), splits, self.generator)
        self._apply(halved, gaussians)
        gaussians.model.mu.copy_(means)
        gaussians.model.log_scales.copy_(scales.log())

    def _show_as_two(self, gaussians: GaussianSet, grows: Tensor) -> None:
        """Two Gaussians in one's place hide what the one did: o -> 1 - sqrt(1 - o) (Rota Bulo et al. 2024, section 3.2)."""
        halved, _ = split_opacity(self.peak.clamp(1e-6, 1 - 1e-6), torch.where(grows, 2, 1))
        gaussians.lower_opacity(self.peak, torch.where(grows, halved, self.peak))
        self.peak = torch.where(grows, halved, self.peak)

    def _prune(self, gaussians: GaussianSet) -> None:
        kept = prune(self.peak, gaussians.model.log_scales.exp(), self.stats, gaussians.extent, self.rules.pruning)
        if len(kept.source):  # a set without Gaussians could never grow again
            self._apply(kept, gaussians)

    def _apply(self, edit: Edit, gaussians: GaussianSet) -> None:
        gaussians.apply(edit)
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


def replaced(edit: Edit, old: nn.Parameter, optimizer: torch.optim.Optimizer) -> nn.Parameter:
    """The edit's version of a parameter (N, ...), in the optimiser's groups and with its moments.

    It is a new one, since autograd remembers the shape that a parameter had in a graph.
    """
    new = nn.Parameter(edit.apply(old.detach()))
    for group in optimizer.param_groups:
        group["params"] = [new if parameter is old else parameter for parameter in group["params"]]
    state = optimizer.state.pop(old, {})
    optimizer.state[new] = {key: value if key == "step" else edit.apply_moment(value) for key, value in state.items()}
    return new


def shift_to(peak: Tensor, wanted: Tensor) -> Tensor:
    """What an opacity's logit changes by, where it was `peak` and is to be `wanted`."""
    return torch.logit(wanted.clamp(1e-6, 1 - 1e-6)) - torch.logit(peak.clamp(1e-6, 1 - 1e-6))


def moments_of(optimizer: torch.optim.Optimizer, parameter: Tensor) -> list[Tensor]:
    """Adam's moments of a parameter: none before its first step."""
    return [moment for name, moment in optimizer.state[parameter].items() if name != "step"]
