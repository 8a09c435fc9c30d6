"""The head at rest: a signed distance and a colour, blended of small MLPs around anchors (NPHM section 3.1, MonoNPHM 3.2).

Lengths are the model's units, a quarter of a metre. B people, N points, A anchors, K neighbours, G = A + 1 regions, R rows:
pairs of a point and a region that matters to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from avatar_models.heads.nphm import inference
from avatar_models.heads.nphm.ensemble import LocalMLPs, Tiles, tiles_of
from avatar_models.heads.nphm.inference import OfPerson
from avatar_models.heads.nphm.sizes import NphmSizes

GLOBAL_DISTANCE = 0.75
"""How far every point is from the region of the whole head: its weight counts where no anchor is near."""

SHARPNESS = 100.0
"""Of the softplus: it differs from a ReLU within some hundredths of a unit."""

LEAST_SUM = 1e-8
"""Added to a sum of weights."""


def softplus(x: Tensor) -> Tensor:
    return nnf.softplus(x, beta=SHARPNESS)


@dataclass(frozen=True)
class Regions:
    """The regions that points ask, K by their nearest anchors, nearest first, and the whole head's."""

    index: Tensor  # (B, N, K + 1)
    weights: Tensor  # (B, N, K + 1), sums of one


@dataclass(frozen=True)
class Rows:
    """The pairs of point and region whose weight is more than rounding, and what the geometry's MLPs see of them."""

    kept: Tensor  # (R,) in B N (K + 1)
    code: Tensor  # (R,) the region's code, in B G
    tiles: Tiles
    places: Tensor  # (n, T, 3 + H) points as their region sees them


class Canonical(nn.Module):
    """The canonical fields. Mean anchors (A, 3) are data: where the training's faces have theirs."""

    mean_anchors: Tensor  # (A, 3)
    mlp_of_region: Tensor  # (G,)
    sides: Tensor  # (G, 3 + H) what a region's points are multiplied with

    def __init__(self, sizes: NphmSizes, mean_anchors: Tensor) -> None:
        super().__init__()
        if mean_anchors.shape != (sizes.num_anchors, 3):
            raise ValueError(f"mean anchors are {tuple(mean_anchors.shape)}, these sizes have ({sizes.num_anchors}, 3)")
        self.sizes = sizes
        width, code = 3 + sizes.hyper, sizes.global_code + sizes.local_code
        self.anchor_offsets = mlp(sizes.global_code, sizes.anchor_hidden, 2, 3 * sizes.num_anchors)
        self.geometry = LocalMLPs(
            sizes.num_mlps, code, width, sizes.geometry_hidden, sizes.geometry_layers, 1, activation=softplus
        )  # fmt: skip
        self.link = mlp(sizes.geometry_hidden, sizes.link, 1, sizes.link)
        self.color = LocalMLPs(
            sizes.num_mlps, code, sizes.link, sizes.color_hidden, sizes.color_layers, 3, activation=torch.relu
        )  # fmt: skip
        sides = torch.ones(sizes.num_regions, width)
        sides[torch.tensor(sizes.mirrored), 0] = -1
        self.register_buffer("mean_anchors", mean_anchors.detach().clone().float())
        self.register_buffer("mlp_of_region", torch.tensor(sizes.mlp_of_region), persistent=False)
        self.register_buffer("sides", sides, persistent=False)

    def anchors(self, geometry: Tensor) -> Tensor:
        """Anchors (B, A, 3) of identities (B, D)."""
        offsets = self.anchor_offsets(geometry[:, : self.sizes.global_code])
        return self.mean_anchors + offsets.unflatten(1, (-1, 3))

    def regions(self, points: Tensor, anchors: Tensor) -> Regions:
        """The regions of points (B, N, 3 or more) among anchors (B, A, 3)."""
        sizes, x = self.sizes, points[..., :3]
        with torch.no_grad():  # distances by products of matrices would mix up neighbours
            distances = torch.cdist(x, anchors, compute_mode="donot_use_mm_for_euclid_dist")
            nearest = distances.topk(sizes.neighbors, dim=2, largest=False).indices
        of_people = torch.arange(len(x), device=x.device)[:, None, None]
        squares = (x[:, :, None] - anchors[of_people, nearest]).square().sum(3)
        whole = torch.full_like(squares[..., :1], GLOBAL_DISTANCE**2)
        scale = sizes.blend_width**2 * squares[..., sizes.blend_neighbors - 1, None]
        w = torch.exp(-torch.cat([squares, whole], 2) / (2 * scale))
        index = torch.cat([nearest, torch.full_like(nearest[..., :1], sizes.num_anchors)], 2)
        return Regions(index, w / (w.sum(2, keepdim=True) + LEAST_SUM))

    def rows(self, points: Tensor, anchors: Tensor, regions: Regions) -> Rows:
        """What points (B, N, 3 + H) are to their regions."""
        count, width = points.shape[1:]
        # A weight below a float's last digit changes no sum: the whole head's mostly is, close to the face.
        kept = (regions.weights.detach() > torch.finfo(points.dtype).eps / 2).flatten().nonzero()[:, 0]
        point = kept // regions.index.shape[2]
        region = regions.index.flatten()[kept]
        code = point // max(count, 1) * self.sizes.num_regions + region
        centers = nnf.pad(anchors, (0, width - 3, 0, 1)).flatten(0, 1)
        tiles = tiles_of(self.mlp_of_region[region], self.sizes.num_mlps)
        at_point, of_code, of_region = tiles.sorted(point), tiles.sorted(code), tiles.sorted(region)
        places = (points.flatten(0, 1)[at_point] - centers[of_code]) * self.sides[of_region]
        return Rows(kept, code, tiles, places)

    def sdf(self, points: Tensor, geometry: Tensor) -> Tensor:
        """Signed distances (B, N), positive outside, of points (B, N, 3 + H) to identities (B, D)."""
        anchors = self.anchors(geometry)
        if in_kernel(points):
            of_codes = self._of_codes(self.geometry, geometry)
            people = zip(self._people(points, anchors), of_codes, strict=True)
            return torch.stack([inference.sdf(person, self.geometry, share) for person, share in people])
        regions = self.regions(points, anchors)
        rows = self.rows(points, anchors, regions)
        found, _ = self._geometry(rows, geometry)
        return blended(found, rows, regions)[..., 0]

    def sdf_and_gradient(self, points: Tensor, geometry: Tensor) -> tuple[Tensor, Tensor]:
        """Signed distances (B, N), and their gradients (B, N, 3 + H) by the points. Nothing of it is recorded."""
        with torch.no_grad():
            if in_kernel(points):
                of_codes, anchors = self._of_codes(self.geometry, geometry), self.anchors(geometry)
                people = zip(self._people(points.detach(), anchors), of_codes, strict=True)
                found = [inference.sdf_and_gradient(person, self.geometry, share) for person, share in people]
                return torch.stack([sdf for sdf, _ in found]), torch.stack([gradient for _, gradient in found])
        with torch.enable_grad():
            x = points.detach().requires_grad_()
            sdf = self.sdf(x, geometry)
            (gradient,) = torch.autograd.grad(sdf.sum(), x)
        return sdf.detach(), gradient

    def sdf_and_color(self, points: Tensor, geometry: Tensor, appearance: Tensor) -> tuple[Tensor, Tensor]:
        """Signed distances (B, N), and colours (B, N, 3) from -1 to 1 of appearances (B, D)."""
        anchors = self.anchors(geometry)
        if in_kernel(points):
            shares = self._of_codes(self.geometry, geometry), self._of_codes(self.color, appearance)
            found = [
                inference.sdf_and_color(person, self.geometry, share, self.link, self.color, color_share)
                for person, share, color_share in zip(self._people(points, anchors), *shares, strict=True)
            ]
            return torch.stack([sdf for sdf, _ in found]), torch.stack([color for _, color in found])
        regions = self.regions(points, anchors)
        rows = self.rows(points, anchors, regions)
        sdf, features = self._geometry(rows, geometry)
        of_codes = self._of_codes(self.color, appearance).flatten(0, 1)
        color, _ = self.color(self.link(features), of_codes[rows.tiles.sorted(rows.code)], rows.tiles.mlp)
        return blended(sdf, rows, regions)[..., 0], blended(color, rows, regions)

    def local(self, code: Tensor) -> Tensor:
        """The regions' own codes (B, G, C), global values first, of codes (B, D)."""
        whole, parts = code.split([self.sizes.global_code, code.shape[1] - self.sizes.global_code], 1)
        parts = parts.unflatten(1, (self.sizes.num_regions, -1))
        return torch.cat([whole[:, None].expand(-1, self.sizes.num_regions, -1), parts], 2)

    def _of_codes(self, mlps: LocalMLPs, code: Tensor) -> Tensor:
        """What the regions' first layers make of codes (B, D): (B, G, hidden)."""
        return mlps.codes(self.local(code), self.mlp_of_region)

    def _people(self, points: Tensor, anchors: Tensor) -> list[OfPerson]:
        pairs = zip(points, anchors, strict=True)
        return [OfPerson(x, of_x, self.sides, GLOBAL_DISTANCE, self.sizes) for x, of_x in pairs]

    def _geometry(self, rows: Rows, geometry: Tensor) -> tuple[Tensor, Tensor]:
        of_codes = self._of_codes(self.geometry, geometry).flatten(0, 1)
        sdf, features = self.geometry(rows.places, of_codes[rows.tiles.sorted(rows.code)], rows.tiles.mlp)
        return sdf, features


def in_kernel(points: Tensor) -> bool:
    """Whether the CPU's kernel answers: it has no gradients, and is in float32."""
    return points.device.type == "cpu" and points.dtype == torch.float32 and not torch.is_grad_enabled()


def blended(tiles: Tensor, rows: Rows, regions: Regions) -> Tensor:
    """What the MLPs say (n, T, O), blended for each point: (B, N, O)."""
    weights = regions.weights
    all_pairs = tiles.new_zeros(weights.numel(), tiles.shape[2]).index_copy(0, rows.kept, rows.tiles.in_rows(tiles))
    return (weights[..., None] * all_pairs.view(*weights.shape, tiles.shape[2])).sum(2)


def mlp(width: int, hidden: int, layers: int, out: int) -> nn.Sequential:
    """Linear layers with ReLUs between them."""
    widths = (width, *[hidden] * layers, out)
    made: list[nn.Module] = []
    for before, after in pairwise(widths):
        made += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*made[:-1])
