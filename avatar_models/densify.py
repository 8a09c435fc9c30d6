"""Density control as pure functions: state in, state out, on any device.

Every change of the set of Gaussians is an :class:`Edit`: for each new Gaussian the old one that it comes from, and whether
it is fresh (its optimiser's moments start at zero). So one edit is applied to any tensor that has a Gaussian axis.
3DGS's rules are Kerbl et al. 2023, section 5; relocation and noise are Kheradmand et al. 2024 (3DGS-MCMC), sections 4 to 5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from avatar_models.rotations import quaternion_to_matrix

MAX_COPIES = 51
"""Most copies that one Gaussian may become in a relocation, as in 3DGS-MCMC."""


@dataclass(frozen=True)
class ScreenStats:
    """What was seen of each Gaussian since the last edit. N Gaussians."""

    power_sum: Tensor  # (N,) sum of |gradient|^exponent over the views that saw it
    views: Tensor  # (N,) number of them
    largest: Tensor  # (N,) largest radius over the picture's longer side
    exponent: float
    """Power mean: 1 is 3DGS's mean; larger ones let few views with large gradients count."""


@dataclass(frozen=True)
class GrowthRules:
    """3DGS's thresholds."""

    gradient: float = 2e-4
    """Screen-space gradient, in half picture widths, above which a Gaussian grows."""
    small: float = 0.01
    """Gaussians up to this share of the scene's extent are cloned, larger ones split."""
    max_count: int = 1_000_000
    """Of those that want to grow, the ones with the largest gradients do while there is room."""


@dataclass(frozen=True)
class PruneRules:
    """3DGS's thresholds."""

    opacity: float = 0.005
    large: float = 0.1
    """Gaussians beyond this share of the scene's extent go."""
    screen: float = 0.15
    """Gaussians whose radius was beyond this share of a picture go."""


@dataclass(frozen=True)
class Edit:
    """A new set of M Gaussians made from an old one."""

    source: Tensor  # (M,) int64
    fresh: Tensor  # (M,) bool

    def apply(self, tensor: Tensor, axis: int = 0) -> Tensor:
        """A parameter of the new set, copied from the old one."""
        return tensor.index_select(axis, self.source)

    def apply_moment(self, tensor: Tensor, axis: int = 0) -> Tensor:
        """An optimiser's moment of the new set: zero where a Gaussian is fresh."""
        shape = [1] * tensor.ndim
        shape[axis] = -1
        return torch.where(self.fresh.view(shape), tensor.new_zeros(()), self.apply(tensor, axis))


def no_stats(count: int, exponent: float = 1.0, device: torch.device | str = "cpu") -> ScreenStats:
    """Before any view."""
    zeros = torch.zeros(count, device=device)
    return ScreenStats(zeros, zeros, zeros, exponent)


def add_views(stats: ScreenStats, v_means2d: Tensor, radii: Tensor, width: int, height: int) -> ScreenStats:
    """Counts rendered views in: v_means2d (B, N, 2) the loss's gradient to Splats.means2d, radii (B, N, 2) pixels.

    Gradients are taken in half picture sizes and times B, as if the loss were each view's own: gsplat's convention.
    """
    size = torch.tensor([width, height], device=v_means2d.device)
    norm = (v_means2d * (size / 2 * len(v_means2d))).norm(dim=-1)
    seen = (radii > 0).all(-1)
    return replace(
        stats,
        power_sum=stats.power_sum + torch.where(seen, norm**stats.exponent, 0).sum(0),
        views=stats.views + seen.sum(0),
        largest=torch.maximum(stats.largest, radii.amax((0, 2)) / max(width, height)),
    )


def mean_gradient(stats: ScreenStats) -> Tensor:
    """(N,) power mean of the gradients over the views that saw a Gaussian; 0 for those never seen."""
    return (stats.power_sum / stats.views.clamp_min(1)) ** (1 / stats.exponent)


def choose_growth(stats: ScreenStats, scales: Tensor, extent: float, rules: GrowthRules) -> tuple[Tensor, Tensor]:
    """Masks (N,) of the Gaussians to clone and to split; scales (N, 3) and extent in metres."""
    gradient = mean_gradient(stats)
    grows = gradient > rules.gradient
    room = max(0, rules.max_count - len(scales))
    if int(grows.sum()) > room:
        chosen = torch.where(grows, gradient, -1).argsort(descending=True, stable=True)[:room]
        grows = torch.zeros_like(grows).index_fill(0, chosen, True)
    small = scales.amax(1) <= rules.small * extent
    return grows & small, grows & ~small


def clone(count: int, clones: Tensor) -> Edit:
    """Keeps all and adds a copy of each Gaussian in the mask."""
    old = torch.arange(count, device=clones.device)
    source = torch.cat([old, clones.nonzero()[:, 0]])
    return Edit(source, torch.arange(len(source), device=clones.device) >= count)


def split(
    means: Tensor, quats: Tensor, scales: Tensor, splits: Tensor, generator: torch.Generator
) -> tuple[Edit, Tensor, Tensor]:
    """Puts two in the place of each Gaussian in the mask, drawn from it and 1.6 times smaller.

    Gives the edit, and means and scales of the new set. The generator lives on the CPU, so that every device draws the same.
    """
    old = (~splits).nonzero()[:, 0]
    halves = splits.nonzero()[:, 0].repeat(2)
    edit = Edit(torch.cat([old, halves]), torch.cat([torch.zeros_like(old), torch.ones_like(halves)]).bool())
    drawn = torch.randn(len(halves), 3, generator=generator).to(means)
    offset = (quaternion_to_matrix(quats[halves]) @ (scales[halves] * drawn)[..., None])[..., 0]
    new_means, new_scales = edit.apply(means).clone(), edit.apply(scales).clone()
    new_means[len(old) :] += offset
    new_scales[len(old) :] /= 1.6
    return edit, new_means, new_scales


def prune(opacities: Tensor, scales: Tensor, stats: ScreenStats, extent: float, rules: PruneRules) -> Edit:
    """Leaves out what is nearly transparent, and what has grown too large in space or on a screen."""
    keep = (opacities >= rules.opacity) & (scales.amax(1) <= rules.large * extent) & (stats.largest <= rules.screen)
    source = keep.nonzero()[:, 0]
    return Edit(source, torch.zeros_like(source).bool())


def reset_opacity(logits: Tensor, ceiling: float = 0.01) -> Tensor:
    """Opacities down to at most `ceiling`, as 3DGS does every 3,000 steps; logits (N,)."""
    return logits.clamp_max(math.log(ceiling / (1 - ceiling)))


def decay_opacity(logits: Tensor, factor: float) -> Tensor:
    """Opacities times `factor` < 1: done often, it removes what no view needs without the shock of a reset."""
    return torch.logit((torch.sigmoid(logits) * factor).clamp(1e-6, 1 - 1e-6))


def relocate(opacities: Tensor, scales: Tensor, dead: Tensor, generator: torch.Generator) -> tuple[Edit, Tensor, Tensor]:
    """Moves each dead Gaussian onto a living one, drawn by opacity, so that the picture stays as it was.

    A Gaussian that is there n times gets opacity 1 - (1 - o)^(1/n) (equation 8) and scales that keep its integral along a
    ray (equation 9). Gives the edit, and opacities (N,) and scales (N, 3) of the new set.
    """
    alive = (~dead).nonzero()[:, 0]
    if len(alive) == 0 or not bool(dead.any()):
        source = torch.arange(len(dead), device=dead.device)
        return Edit(source, torch.zeros_like(dead)), opacities, scales
    drawn = torch.multinomial(opacities[alive].cpu(), int(dead.sum()), replacement=True, generator=generator).to(dead.device)
    source = torch.arange(len(dead), device=dead.device)
    source[dead] = alive[drawn]
    copies = torch.bincount(source, minlength=len(dead))[source].clamp_max(MAX_COPIES)
    new_opacities, shrink = split_opacity(opacities[source], copies)
    return Edit(source, copies > 1), new_opacities, scales[source] * shrink[:, None]


def split_opacity(opacities: Tensor, copies: Tensor) -> tuple[Tensor, Tensor]:
    """Opacity and factor of the scales (N,) of each of `copies` (N,) Gaussians that stand in one's place.

    factor = o / sum_{i=1}^{n} sum_{k=0}^{i-1} C(i-1, k) (-1)^k o_n^(k+1) / sqrt(k+1), in float64.
    """
    o, n = opacities.double(), copies
    o_n = 1 - (1 - o) ** (1 / n)
    total = torch.zeros_like(o)
    # sum_{i=k+1}^{n} C(i-1, k) = C(n, k+1) turns the double sum into one
    for k in range(int(n.max())):
        binomial = torch.exp(torch.lgamma(n + 1.0) - math.lgamma(k + 2) - torch.lgamma((n - k).clamp_min(1).double()))
        total += torch.where(k < n, binomial * (-1) ** k * o_n ** (k + 1) / math.sqrt(k + 1), 0)
    return o_n.to(opacities), (o / total).to(opacities)


def explore(
    means: Tensor, quats: Tensor, scales: Tensor, opacities: Tensor, strength: float, generator: torch.Generator
) -> Tensor:
    """Means with noise of each Gaussian's own shape, for those that are nearly transparent (equation 7)."""
    gate = torch.sigmoid(-100 * (opacities - 0.005))
    M = quaternion_to_matrix(quats) * scales[:, None]
    noise = torch.randn(means.shape, generator=generator).to(means)
    return means + strength * gate[:, None] * (M @ M.mT @ noise[..., None])[..., 0]
