"""A trained HeadGaS that is only looked at: what does not depend on the expression is worked out once.

The MLP sees positions at rest, so of its first layer only the blend's share is left to do for an expression:

    h = relu(W_f F^T e + [W_f f_0 + W_psi psi(mu) + b_1]),   (c, alpha) = W_2 h + [b_2 + the Gaussian's offset]

and each bracket is a row per Gaussian. N Gaussians, E expression values, D features, H hidden values, O = 3 K + 1 outputs,
B expressions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import repeat

import numpy as np
import torch
from torch import Tensor, nn

from avatar_models import kernels
from avatar_models.blending import steady_blend
from avatar_models.cameras import Camera
from avatar_models.gaussians import Gaussians
from avatar_models.headgas.model import HeadGas
from avatar_models.headgas.variants import Full, Rigged
from avatar_models.kernels import headgas as fused
from avatar_models.kernels.arena import empty
from avatar_models.kernels.lanes import ROWS
from avatar_models.kernels.threads import run
from avatar_models.splatting import splat

TOGETHER = ROWS
"""Expressions that are worked out in one pass over the basis, where they are known ahead."""

Appearance = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Weights e (B, E) -> harmonics (B, N, 3 K) and opacities (B, N)."""


class FrozenHeadGas:
    """An avatar made once from a trained HeadGas, whose parameters may not change any more.

    The Gaussians of the last condition are kept, so that more views of it cost splatting alone.
    """

    def __init__(self, model: HeadGas) -> None:
        self.condition_size = model.condition_size
        self._of_conditions = _from_layers(model) if isinstance(model.variant, (Full, Rigged)) else _from_module(model)
        self._last: tuple[Tensor, Gaussians] | None = None

    def gaussians(self, condition: Tensor) -> Gaussians:
        """Gaussians in the head's frame for one condition (E,)."""
        return next(self.each(condition[None]))

    def draw(self, gaussians: Gaussians, camera: Camera, background: Tensor) -> Tensor:
        """The picture (1, 3, H, W): splatting is all."""
        return splat(gaussians, camera, background).image

    @torch.no_grad()
    def each(self, conditions: Tensor) -> Iterator[Gaussians]:
        """The Gaussians of conditions (B, E), one after the other. A condition gives the same bits whatever is around it."""
        distinct, times = torch.unique_consecutive(conditions.detach(), dim=0, return_counts=True)
        for some, of_some in zip(distinct.split(TOGETHER), times.split(TOGETHER), strict=True):
            known = [self._last[1]] if self._last is not None and torch.equal(some[0], self._last[0]) else []
            new = some[len(known) :]
            made = known + (self._of_conditions(new) if len(new) else [])
            self._last = some[-1], made[-1]
            for gaussians, count in zip(made, of_some.tolist(), strict=True):
                yield from repeat(gaussians, count)


def _from_module(model: HeadGas) -> Callable[[Tensor], list[Gaussians]]:
    """Variants whose MLP gives more than colour and opacity, or that have none, go through their own forward pass."""
    return lambda conditions: [model.gaussians(condition) for condition in conditions]


def _from_layers(model: HeadGas) -> Callable[[Tensor], list[Gaussians]]:
    """Appearances come from the folded layers: on CUDA in torch, on a CPU in one kernel. Only the surface moves the means."""
    layers = fold(model)
    appearance: Appearance = InTorch(layers) if layers.F.is_cuda else InKernel(layers)
    motion, rides = model.motion, model.rides
    means, quats, scales = (tensor.detach() for tensor in (model.mu, model.quats, model.log_scales.exp()))

    def of_conditions(conditions: Tensor) -> list[Gaussians]:
        colors, opacities = appearance(model.weights(conditions))
        harmonics = colors.unflatten(-1, (-1, 3))
        places = [means + steady_blend(c, motion).reshape(-1, 3) if rides else means for c in conditions]
        return [Gaussians(m, quats, scales, o, c) for m, o, c in zip(places, opacities, harmonics, strict=True)]

    return of_conditions


@dataclass(frozen=True)
class Layers:
    """The MLP of `full` or `rigged` with all that is the same in every expression added up. float32."""

    F: Tensor  # (E, N D)
    before: Tensor  # (N, H) the first layer of f_0 and psi
    W1: Tensor  # (D, H)
    base: Tensor  # (N, O) the second layer's bias and the Gaussian's offset: harmonics, then the logit of the opacity
    W2: Tensor  # (H, O)


@torch.no_grad()
def fold(model: HeadGas) -> Layers:
    """The layers of a trained `full` or `rigged` HeadGaS; sums are taken in float64."""
    first, last = model.phi[0], model.phi[2]
    assert isinstance(first, nn.Linear)
    assert isinstance(last, nn.Linear)
    psi = torch.cat(model.psi(model.mu.double()), 1)
    W_f, W_psi = first.weight.double().split([model.sizes.feature_dim, model.sizes.psi_width], 1)
    before = model.f0.double() @ W_f.T + psi @ W_psi.T + first.bias.double()
    base = model.base.double() + last.bias.double()
    shown = [*range(3 * (model.sh_shown + 1) ** 2), model.sizes.appearance_width - 1]
    W2 = last.weight.detach().T[:, shown]
    F = model.F.detach() * model.locality.repeat_interleave(model.sizes.feature_dim)
    return Layers(F.float(), before.float(), W_f.T.float(), base[:, shown].float(), W2.float())


class InTorch:
    """Appearances in a few calls of torch, on any device."""

    def __init__(self, layers: Layers) -> None:
        self.layers = layers

    def __call__(self, e: Tensor) -> tuple[Tensor, Tensor]:
        """See :data:`Appearance`."""
        own = self.layers
        blended = (e @ own.F).unflatten(1, (len(own.before), -1))
        out = torch.relu(blended @ own.W1 + own.before) @ own.W2 + own.base
        return out[..., :-1], torch.sigmoid(out[..., -1])


class InKernel:
    """Appearances in one pass over the basis on a CPU, the same bits for any number of threads and any B."""

    def __init__(self, layers: Layers) -> None:
        self.F = np.ascontiguousarray(layers.F.numpy())
        self.features, self.outputs = len(layers.W1), layers.base.shape[1]
        self.before, self.base = (_padded(tensor) for tensor in (layers.before, layers.base))
        W1, W2 = _padded(layers.W1), _padded(layers.W2)
        self.W1 = W1.reshape(-1)
        self.W2 = np.pad(W2, ((0, W1.shape[1] - len(W2)), (0, 0))).reshape(-1)

    def __call__(self, e: Tensor) -> tuple[Tensor, Tensor]:
        """See :data:`Appearance`."""
        kernels.announce()
        batch, (count, hidden), outputs = len(e), self.before.shape, self.base.shape[1]
        colors, opacities = empty(batch, count, self.outputs - 1), empty(batch, count)
        weights = np.ascontiguousarray(e.numpy(), np.float32)
        arrays = (weights, self.F, self.before, self.W1, self.base, self.W2, colors, opacities)
        chunk = fused.chunk_of(batch)
        scratch = fused.scratch_floats(chunk, self.features, hidden, outputs)
        run(fused.appearance, -(-count // chunk), torch.get_num_threads(), chunk, *arrays, scratch=scratch)
        return torch.from_numpy(colors), torch.from_numpy(opacities)


def _padded(matrix: Tensor) -> np.ndarray:
    """(n, w) with zeros behind, so that rows are whole vectors."""
    return np.pad(matrix.numpy(), ((0, 0), (0, fused.padded(matrix.shape[1]) - matrix.shape[1])))
