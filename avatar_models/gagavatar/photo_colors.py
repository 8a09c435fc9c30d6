"""What a photo says of the colours of Gaussians before anything is learned: an addition to the paper.

B photos, V vertices, M lifted points of S along a side of a plane.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from avatar_models.cameras import Camera, project

CELLS = 32
"""Along a side of the photo: of the vertices in a cell those are seen that are hardly farther than its nearest one."""
THICKNESS = 0.02
"""Metres that a seen vertex may lie behind its cell's nearest one."""


@dataclass(frozen=True)
class Photos:
    """B photos, and how the heads in them are posed."""

    pictures: Tensor  # (B, 3, s, s) in [0, 1] over black
    cameras: Camera
    vertices: Tensor  # (B, V, 3) metres: those that carry Gaussians

    def __len__(self) -> int:
        return len(self.pictures)


@dataclass(frozen=True)
class VertexColors:
    """What a photo shows of vertices."""

    colors: Tensor  # (B, V, 3)
    seen: Tensor  # (B, V) one or zero


def on_plane(pictures: Tensor, size: int) -> Tensor:
    """Colours (B, 3, size, size) of pictures (B, 3, s, s) where a plane's points are seen."""
    along = torch.linspace(-1.0, 1.0, size, dtype=pictures.dtype, device=pictures.device)
    y, x = torch.meshgrid(along, along, indexing="ij")
    return _sampled(pictures, torch.stack([x, y], 2).expand(len(pictures), -1, -1, -1))


def on_vertices(photos: Photos) -> VertexColors:
    """What vertices show in the photo. Hidden ones have the mean colour of those seen."""
    cameras = photos.cameras
    size = photos.vertices.new_tensor([cameras.width, cameras.height])
    places = 2 * project(photos.vertices, cameras) / size - 1  # the photo is -1 to 1
    colors = _sampled(photos.pictures, places[:, None])[:, :, 0].mT
    seen = visible(photos, places)
    mean = (seen[..., None] * colors).sum(1, keepdim=True) / seen.sum(1).clamp_min(1)[:, None, None]
    return VertexColors(torch.where(seen[..., None] > 0, colors, mean), seen)


def visible(photos: Photos, places: Tensor) -> Tensor:
    """Which vertices, at places (B, V, 2) of which the photo is -1 to 1, no other vertex hides: (B, V), one or zero."""
    R, t = photos.cameras.viewmat[:, :3, :3], photos.cameras.viewmat[:, :3, 3]
    depth = (photos.vertices @ R.mT + t[:, None])[..., 2]
    inside = (places.abs() < 1).all(2)
    column, row = ((places + 1) / 2 * CELLS).long().clamp(0, CELLS - 1).unbind(2)
    cell = row * CELLS + column
    far = depth.new_full((len(photos), CELLS * CELLS), torch.inf)
    nearest = far.scatter_reduce(1, cell, torch.where(inside, depth, torch.inf), "amin").gather(1, cell)
    return (inside & (depth < nearest + THICKNESS)).to(depth.dtype)


def _sampled(pictures: Tensor, grid: Tensor) -> Tensor:
    return grid_sample(pictures, grid, padding_mode="border", align_corners=False)
