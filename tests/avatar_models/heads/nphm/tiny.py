"""A neural head of a few thousand weights, codes for it, and the same head by plain loops."""

from __future__ import annotations

import torch
import torch.nn.functional as nnf
from torch import Tensor

from avatar_models.heads.nphm import Codes, Nphm, NphmSizes
from avatar_models.heads.nphm.canonical import GLOBAL_DISTANCE, Canonical
from avatar_models.heads.nphm.ensemble import LocalMLPs

TINY = NphmSizes(
    num_anchors=7, num_pairs=2, neighbors=4, blend_neighbors=3, blend_width=0.4, global_code=3, local_code=2,
    expression_code=5, hyper=2, anchor_hidden=6, geometry_hidden=8, geometry_layers=3, color_hidden=6, color_layers=2, link=4,
    deformation_hidden=9, deformation_layers=4, compressed=3,
)  # fmt: skip


def mean_anchors(sizes: NphmSizes = TINY) -> Tensor:
    """Anchors (A, 3) in metres, pairs exact mirror images."""
    found = 0.08 * torch.randn(sizes.num_anchors, 3, generator=torch.Generator().manual_seed(1))
    found[1 : 2 * sizes.num_pairs : 2] = found[0 : 2 * sizes.num_pairs : 2] * torch.tensor([-1.0, 1.0, 1.0])
    found[2 * sizes.num_pairs :, 0] = 0
    return found


def tiny(sizes: NphmSizes = TINY) -> Nphm:
    """Weights so large that every part matters."""
    torch.manual_seed(0)
    model = Nphm(sizes, mean_anchors(sizes))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 2
        for parameter in model.canonical.anchor_offsets.parameters():
            parameter *= 0.2
    return model.eval()


def codes(count: int, sizes: NphmSizes = TINY) -> Codes:
    g = torch.Generator().manual_seed(2)
    lengths = sizes.identity_code, sizes.identity_code, sizes.expression_code
    return Codes(*(torch.randn(count, length, generator=g) for length in lengths))


def points(batch: int, count: int, width: int = 3) -> Tensor:
    return 0.1 * torch.randn(batch, count, width, generator=torch.Generator().manual_seed(3))


def of_one(mlps: LocalMLPs, index: int, code: Tensor, point: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs and last hidden layer of one MLP for one code (C,) and point (P,)."""
    weights = [torch.cat([mlps.of_code[index], mlps.of_point[index]]), *(W[index] for W in mlps.weights)]
    h = torch.cat([code, point])
    for place, (W, b) in enumerate(zip(weights, mlps.biases, strict=True)):
        h = (h if place == 0 else mlps.activation(h)) @ W + b[index]
    return mlps.activation(h) @ mlps.last[index] + mlps.last_bias[index], h


def by_loops(model: Canonical, x: Tensor, geometry: Tensor, appearance: Tensor) -> Tensor:
    """Signed distance and colour (4,) of one point (3 + H,) in the model's units and one person."""
    sizes = model.sizes
    anchors = model.anchors(geometry[None])[0]
    distances = (anchors - x[:3]).norm(dim=1)
    nearest = distances.argsort()[: sizes.neighbors].tolist()
    scale = sizes.blend_width * distances[nearest[sizes.blend_neighbors - 1]]
    total, weights = torch.zeros(4, dtype=x.dtype), 0.0
    for region in [*nearest, sizes.num_anchors]:
        whole = region == sizes.num_anchors
        center = x.new_zeros(3) if whole else anchors[region]
        delta = x - nnf.pad(center, (0, sizes.hyper))
        if region < 2 * sizes.num_pairs and region % 2:
            delta = delta * torch.tensor([-1.0, 1.0, 1.0] + [1.0] * sizes.hyper, dtype=x.dtype)
        mlp = region // 2 if region < 2 * sizes.num_pairs else region - sizes.num_pairs
        start = sizes.global_code + region * sizes.local_code
        local = [torch.cat([z[: sizes.global_code], z[start : start + sizes.local_code]]) for z in (geometry, appearance)]
        sdf, features = of_one(model.geometry, mlp, local[0], delta)
        color, _ = of_one(model.color, mlp, local[1], model.link(features))
        w = torch.exp(-(((GLOBAL_DISTANCE if whole else distances[region]) / scale) ** 2) / 2)
        total, weights = total + w * torch.cat([sdf, color]), weights + w
    return total / (weights + 1e-8)
