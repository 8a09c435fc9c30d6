"""From the posed head back to the head at rest: an offset and hyper coordinates for each point (MonoNPHM section 3.1).

Lengths are the model's units. B people, N points.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from avatar_models.heads.nphm.canonical import softplus
from avatar_models.heads.nphm.sizes import NphmSizes


class Deformation(nn.Module):
    """The backward deformation field: an MLP of the point, a few values of the identity, and the expression.

    The input joins again half way. Of both layers that see it, the codes' share is worked out once a person.
    """

    def __init__(self, sizes: NphmSizes) -> None:
        super().__init__()
        self.compress = nn.Linear(sizes.identity_code + 3 * sizes.num_anchors, sizes.compressed)
        hidden, code = sizes.deformation_hidden, sizes.compressed + sizes.expression_code
        self.skip = sizes.deformation_layers // 2
        self.layers = nn.ModuleList()
        for layer in range(sizes.deformation_layers + 1):
            before = (hidden if layer else 0) + (3 + code if layer in (0, self.skip) else 0)
            self.layers.append(nn.Linear(before, hidden if layer < sizes.deformation_layers else 3 + sizes.hyper))

    def forward(self, points: Tensor, geometry: Tensor, anchors: Tensor, expression: Tensor) -> Tensor:
        """Where posed points (B, N, 3) are at rest, (B, N, 3 + H): identities (B, D), anchors (B, A, 3), expressions (B, E)."""
        return self.of_identity(points, self.compressed(geometry, anchors), expression)

    def compressed(self, geometry: Tensor, anchors: Tensor) -> Tensor:
        """What the field learns of identities: (B, compressed)."""
        found: Tensor = self.compress(torch.cat([geometry, anchors.flatten(1)], 1))
        return found

    def of_identity(self, points: Tensor, compressed: Tensor, expression: Tensor) -> Tensor:
        """The same, with what is learnt of identities (B, compressed)."""
        about = torch.cat([compressed, expression], 1)
        h = self._with_input(0, None, points, about)
        for place, layer in enumerate(self.layers[1:], start=1):
            h = softplus(h)
            h = self._with_input(place, h, points, about) if place == self.skip else layer(h)
        offset, hyper = h.split([3, h.shape[2] - 3], 2)
        return torch.cat([points + offset, hyper], 2)

    def _with_input(self, place: int, h: Tensor | None, points: Tensor, about: Tensor) -> Tensor:
        """A layer whose input is [h, point, about], over sqrt 2 where there is an h."""
        layer = self.layers[place]
        assert isinstance(layer, nn.Linear)
        before = 0 if h is None else h.shape[2]
        W_h, W_x, W_about = layer.weight.split([before, 3, about.shape[1]], 1)
        found: Tensor = points @ W_x.T + (about @ W_about.T)[:, None]
        if h is not None:
            found = (found + h @ W_h.T) / math.sqrt(2)
        return found + layer.bias
