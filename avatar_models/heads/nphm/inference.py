"""The fields of a head at rest where no gradient is asked for, on a CPU: one kernel in place of a tensor for each layer.

N points, A anchors, G regions, M MLPs, H hidden values, P = 3 + hyper coordinates. Lengths are the model's units.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from avatar_models import kernels
from avatar_models.heads.nphm.ensemble import LocalMLPs
from avatar_models.heads.nphm.sizes import NphmSizes
from avatar_models.kernels import nphm as fused
from avatar_models.kernels.lanes import LANES
from avatar_models.kernels.threads import run

CELLS = 128
"""Cells along a side of the points' box; points of a cell are asked one after the other."""


@dataclass(frozen=True)
class OfPerson:
    """A person's points, and what is the same for all of them. float32 and on the CPU, as all is."""

    points: Tensor  # (N, P)
    anchors: Tensor  # (A, 3)
    sides: Tensor  # (G, P) what a region's points are multiplied with
    whole: float  # every point's distance to the whole head
    sizes: NphmSizes


def sdf(person: OfPerson, mlps: LocalMLPs, of_codes: Tensor) -> Tensor:
    """Signed distances (N,); of_codes (G, H) is what the first layer makes of the regions' codes."""
    geometry = _packed(mlps, of_codes)
    pairs, weights, inverse, _ = _pairs(person)
    return _blended(fused.distances, pairs, weights, (geometry,), geometry.of_codes.shape[1], 1)[inverse, 0]


def sdf_and_color(
    person: OfPerson, mlps: LocalMLPs, of_codes: Tensor, link: nn.Sequential, color_mlps: LocalMLPs, of_color_codes: Tensor
) -> tuple[Tensor, Tensor]:
    """Signed distances (N,) and colours (N, 3)."""
    geometry, color, between = _packed(mlps, of_codes), _packed(color_mlps, of_color_codes), _packed_link(link)
    widest = max(geometry.of_codes.shape[1], color.of_codes.shape[1], len(between.first_bias))
    pairs, weights, inverse, _ = _pairs(person)
    found = _blended(fused.distances_and_colors, pairs, weights, (geometry, between, color), widest, 4)[inverse]
    return found[:, 0], found[:, 1:]


def sdf_and_gradient(person: OfPerson, mlps: LocalMLPs, of_codes: Tensor) -> tuple[Tensor, Tensor]:
    """Signed distances (N,) and their gradients (N, P) by the points."""
    geometry, backwards = _packed(mlps, of_codes), _packed_backwards(mlps)
    pairs, weights, inverse, index = _pairs(person)
    found = np.zeros((weights.numel(), 1 + pairs.x.shape[1]), np.float32)
    widest = max(geometry.of_codes.shape[1], backwards.of_points.shape[1] * fused.OUT)
    step = widest * LANES
    scratch = (3 + len(mlps.biases)) * step
    run(
        fused.distances_and_gradients, len(pairs.pieces), torch.get_num_threads(), step, pairs, geometry, backwards, found,
        scratch=scratch,
    )  # fmt: skip
    of_pairs = torch.from_numpy(found).view(*weights.shape, -1)
    sdf, gradient = (weights[..., None] * of_pairs).sum(1).split([1, pairs.x.shape[1]], 1)
    gradient[:, :3] += _by_weights(person, torch.from_numpy(pairs.x[:, :3]), index, weights, of_pairs[..., 0] - sdf)
    return sdf[inverse, 0], gradient[inverse]


def _by_weights(person: OfPerson, x: Tensor, index: Tensor, weights: Tensor, apart: Tensor) -> Tensor:
    """What the weights' own change adds to a gradient, (N, 3).

    A weight is exp(-q) over their sum, q = d^2 / (2 b^2 D^2), with D the distance to the anchor that says how far the
    surroundings go: the sum of values v changes by -sum w (v - sum w v) dq, and `apart` (N, K + 1) is v - sum w v.
    """
    between = x[:, None] - person.anchors[index]  # (N, K, 3)
    squares = between.square().sum(2)
    reach = squares[:, person.sizes.blend_neighbors - 1, None]
    pulled = weights * apart
    all_squares = nnf.pad(squares, (0, 1), value=person.whole**2)
    of_reach = (pulled * all_squares).sum(1, keepdim=True) / reach.square()
    to_reach = between[:, person.sizes.blend_neighbors - 1]
    found = (pulled[:, :-1, None] * between).sum(1) / reach - of_reach * to_reach
    return -found / person.sizes.blend_width**2


def _pairs(person: OfPerson) -> tuple[fused.Pairs, Tensor, Tensor, Tensor]:
    """The pairs of points that are sorted so that close ones are together, their weights (N, K + 1), the way back (N,), and the
    nearest anchors (N, K)."""
    kernels.announce()
    sizes, order = person.sizes, close_together(person.points[:, :3])
    x, count, near = np.ascontiguousarray(person.points[order].numpy()), len(order), person.sizes.neighbors
    index, weights = np.empty((count, near), np.int64), np.empty((count, near + 1), np.float32)
    blend = sizes.blend_neighbors, np.float32(sizes.blend_width**2), np.float32(person.whole**2)
    anchors = np.ascontiguousarray(person.anchors.numpy())
    run(fused.neighbors, -(-count // fused.PIECE), torch.get_num_threads(), x, anchors, *blend, index, weights)
    rows, begin = fused.by_region(index, weights, sizes.num_regions, np.float32(torch.finfo(torch.float32).eps / 2))
    centers = nnf.pad(person.anchors, (0, x.shape[1] - 3, 0, 1)).numpy()
    mlp = np.array(sizes.mlp_of_region)
    pairs = fused.Pairs(_pieces(begin), rows, near + 1, x, centers, person.sides.numpy(), mlp)
    inverse = torch.empty_like(order).index_copy_(0, order, torch.arange(count))
    return pairs, torch.from_numpy(weights), inverse, torch.from_numpy(index)


def _blended(
    kernel: Callable[..., None], pairs: fused.Pairs, weights: Tensor, networks: tuple[Any, ...], widest: int, outputs: int
) -> Tensor:
    """What the regions say, blended: (N, outputs)."""
    found = np.zeros((weights.numel(), outputs), np.float32)
    scratch, step = fused.scratch_floats(widest), widest * LANES
    run(kernel, len(pairs.pieces), torch.get_num_threads(), step, pairs, *networks, found, scratch=scratch)
    return (weights[..., None] * torch.from_numpy(found).view(*weights.shape, outputs)).sum(1)


def close_together(x: Tensor) -> Tensor:
    """An order of points (N, 3) along Morton's curve through a grid of CELLS a side: (N,)."""
    if len(x) == 0:
        return torch.empty(0, dtype=torch.int64)
    low, high = x.min(0).values, x.max(0).values
    cell = ((x - low) / (high - low).clamp_min(1e-9) * (CELLS - 1)).nan_to_num(0).long()
    code = torch.zeros(len(x), dtype=torch.int64)
    for bit in range(CELLS.bit_length() - 1):
        for axis in range(3):
            code |= ((cell[:, axis] >> bit) & 1) << (3 * bit + axis)
    return code.argsort()


def _packed(mlps: LocalMLPs, of_codes: Tensor) -> fused.Mlps:
    """Weights as the kernel reads them."""
    of_points, last = (_in_blocks(W[:, None])[:, 0] for W in (mlps.of_point, mlps.last))
    count, hidden = mlps.last.shape[:2]
    W = torch.stack([*mlps.weights], 1) if len(mlps.weights) else mlps.last.new_empty(count, 0, hidden, hidden)
    b = torch.stack([*mlps.biases][1:], 1) if len(mlps.weights) else mlps.last.new_empty(count, 0, hidden)
    return fused.Mlps(_filled(of_codes), of_points, _in_blocks(W), _filled(b), last, _filled(mlps.last_bias), hidden)


def _packed_backwards(mlps: LocalMLPs) -> fused.Backwards:
    of_points = _in_blocks(mlps.of_point.mT[:, None])[:, 0]
    count, hidden = mlps.last.shape[:2]
    W = torch.stack([W.mT for W in mlps.weights], 1) if len(mlps.weights) else mlps.last.new_empty(count, 0, hidden, hidden)
    return fused.Backwards(of_points, _in_blocks(W), np.ascontiguousarray(mlps.last.detach()[..., 0].numpy()))


def _packed_link(link: nn.Sequential) -> fused.Link:
    first, _, second = link
    assert isinstance(first, nn.Linear)
    assert isinstance(second, nn.Linear)
    W_1, W_2 = (_in_blocks(layer.weight.T[None, None])[0, 0] for layer in (first, second))
    return fused.Link(W_1, _filled(first.bias), W_2, _filled(second.bias), first.out_features)


def _in_blocks(W: Tensor) -> np.ndarray:
    """(M, L, in, out) as (M, L, out / OUT, in, OUT), zeros behind."""
    filled = nnf.pad(W.detach(), (0, -W.shape[3] % fused.OUT))
    return np.ascontiguousarray(filled.unflatten(3, (-1, fused.OUT)).transpose(2, 3).numpy())


def _filled(rows: Tensor) -> np.ndarray:
    """The last axis in whole OUT, zeros behind."""
    return np.ascontiguousarray(nnf.pad(rows.detach(), (0, -rows.shape[-1] % fused.OUT)).numpy())


def _pieces(begin: np.ndarray) -> np.ndarray:
    """Regions' rows (n, 3) in pieces: the region, from where, to where."""
    made = [
        (region, start, min(start + fused.PIECE, stop))
        for region, (first, stop) in enumerate(zip(begin[:-1].tolist(), begin[1:].tolist(), strict=True))
        for start in range(first, stop, fused.PIECE)
    ]
    return np.array(made, np.int64).reshape(-1, 3)
