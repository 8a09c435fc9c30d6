"""The surface of a signed distance: marching cubes on a grid that is fine only where the surface is.

Lengths are metres.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as nnf
from skimage.measure import marching_cubes
from torch import Tensor

from avatar_models.heads.nphm.model import Nphm

Box = tuple[tuple[float, float, float], tuple[float, float, float]]

HEAD_BOX: Box = ((-0.1375, -0.125, -0.2375), (0.1375, 0.1875, 0.1))
"""Where MonoNPHM looks for heads: their lowest and highest corner in the head's frame."""

TIMES = 8
"""The coarsest grid's spacing in the finest's, a power of two."""

MARGIN = 2.0
"""Spacings of a grid: what it finds this close to the surface is asked again on the next finer one."""


class SurfaceError(ValueError):
    """There is no surface; the message says where."""


@dataclass(frozen=True)
class Surface:
    """A mesh, triangles counter-clockwise seen from outside."""

    vertices: Tensor  # (V, 3) float32
    faces: Tensor  # (F, 3) int64


def surface_at_rest(model: Nphm, geometry: Tensor, spacing: float) -> Surface:
    """The surface of the head at rest of an identity (D,). Raises SurfaceError."""
    return surface(lambda x: model.sdf_at_rest(x[None], geometry[None])[0], spacing)


@torch.no_grad()
def surface(
    sdf: Callable[[Tensor], Tensor], spacing: float, box: Box = HEAD_BOX, device: str = "cpu", together: int = 65536
) -> Surface:
    """The zero level in a box of distances that `sdf` gives for points (N, 3): (N,), positive outside, slopes of about one.

    `together` is how many points are asked at a time. Raises SurfaceError where the box has no surface.
    """
    low, high = (torch.tensor(corner, device=device) for corner in box)
    step = TIMES * spacing
    cells = ((high - low) / step).ceil().long()

    def ask(places: Tensor, step: float) -> Tensor:
        """Distances (n,) at grid places (n, 3)."""
        return torch.cat([sdf(low + step * some) for some in places.split(together)]) if len(places) else low.new_zeros(0)

    corners = [torch.arange(int(count) + 1, device=device) for count in cells]
    values = ask(torch.cartesian_prod(*corners), step).view(*(len(corner) for corner in corners))
    while step > spacing * 1.5:
        finer = [2 * size - 1 for size in values.shape]
        between = nnf.interpolate(values[None, None], size=finer, mode="trilinear", align_corners=True)[0, 0]
        near = between.abs() < MARGIN * step
        step /= 2
        between[near] = ask(near.nonzero(), step)
        values = between
    if not bool((values < 0).any() and (values > 0).any()):
        raise SurfaceError(f"no surface between {box[0]} and {box[1]} metres: {_all_of(values)}")
    vertices, faces, _, _ = marching_cubes(values.float().cpu().numpy(), 0.0, gradient_direction="descent")
    places = low.cpu() + step * torch.from_numpy(vertices.copy())
    return Surface(places.float(), torch.from_numpy(faces.copy()).long())


def _all_of(values: Tensor) -> str:
    return f"distances are {float(values.min()):.4f} to {float(values.max()):.4f}"
