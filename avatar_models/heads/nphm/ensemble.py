"""Many small MLPs of one shape, of which each row of the input asks one: grouped, so that no loop runs over the MLPs.

Rows are sorted by MLP and cut into tiles of one MLP each; a layer is then one batched product of tiles and their weights.
R rows, M MLPs, n tiles of T rows, C values of a code, P of a point, H hidden values, O outputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

LONGEST = 1024
"""Rows of a tile at most."""

Activation = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Tiles:
    """Where rows lie in tiles. An MLP's last tile has places left, which hold row 0 again and are never read."""

    mlp: Tensor  # (n,) the MLP of each tile
    row: Tensor  # (n, T) the row at each place
    place: Tensor  # (R,) the place of each row, in n T

    def sorted(self, values: Tensor) -> Tensor:
        """(R, ...) -> (n, T, ...)."""
        return values[self.row]

    def in_rows(self, tiles: Tensor) -> Tensor:
        """(n, T, ...) -> (R, ...)."""
        return tiles.flatten(0, 1)[self.place]


def tiles_of(mlp: Tensor, num_mlps: int) -> Tiles:
    """Tiles of rows that ask MLPs (R,), int64."""
    length = tile_length(len(mlp), num_mlps)
    counts = torch.bincount(mlp, minlength=num_mlps)
    num_tiles = (counts + length - 1) // length
    order = mlp.argsort(stable=True)
    # A row's place is its rank among all, moved by the places that the MLPs before its own leave empty.
    moved = (length * num_tiles - counts).cumsum(0) - (length * num_tiles - counts)
    places = torch.arange(len(mlp), device=mlp.device) + moved[mlp[order]]
    tile_mlp = torch.repeat_interleave(torch.arange(num_mlps, device=mlp.device), num_tiles)
    row = torch.zeros(len(tile_mlp) * length, dtype=torch.int64, device=mlp.device)
    row[places] = order
    return Tiles(tile_mlp, row.view(-1, length), torch.empty_like(order).index_copy_(0, order, places))


def tile_length(rows: int, num_mlps: int) -> int:
    """Rows of a tile, a power of two: an eighth of an MLP's mean share, so that about a sixteenth of all places is empty."""
    share = max(rows // (8 * num_mlps), 16)
    return min(1 << math.floor(math.log2(share)), LONGEST)


class LocalMLPs(nn.Module):
    """M MLPs whose input is a code and a point. The first layer's share of the code is worked out once a code, not once a row.

    Weights are (M, in, out), and start as those of torch's Linear do.
    """

    def __init__(self, count: int, code: int, point: int, hidden: int, layers: int, out: int, activation: Activation) -> None:
        super().__init__()
        self.activation = activation
        fan_in = [code + point] + [hidden] * layers
        self.of_code = _uniform((count, code, hidden), fan_in[0])
        self.of_point = _uniform((count, point, hidden), fan_in[0])
        self.weights = nn.ParameterList([_uniform((count, hidden, hidden), hidden) for _ in range(layers - 1)])
        self.last = _uniform((count, hidden, out), hidden)
        self.biases = nn.ParameterList([_uniform((count, hidden), fan_in[layer]) for layer in range(layers)])
        self.last_bias = _uniform((count, out), hidden)

    def codes(self, codes: Tensor, mlp: Tensor) -> Tensor:
        """What codes (B, G, C), of G regions that ask MLPs (G,), give to the first layer: (B, G, H)."""
        return torch.einsum("bgc,gch->bgh", codes, self.of_code[mlp]) + self.biases[0][mlp]

    def forward(self, points: Tensor, of_codes: Tensor, mlp: Tensor) -> tuple[Tensor, Tensor]:
        """Tiles of points (n, T, P) and their codes' shares (n, T, H), and MLPs (n,).

        Returns outputs (n, T, O), and the last hidden layer (n, T, H) before its activation.
        """
        h = of_codes + points @ self.of_point[mlp]
        for W, b in zip(self.weights, self.biases[1:], strict=True):
            h = torch.baddbmm(b[mlp][:, None], self.activation(h), W[mlp])
        return torch.baddbmm(self.last_bias[mlp][:, None], self.activation(h), self.last[mlp]), h


def _uniform(shape: tuple[int, ...], fan_in: int) -> nn.Parameter:
    bound = 1 / math.sqrt(fan_in)
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound))
