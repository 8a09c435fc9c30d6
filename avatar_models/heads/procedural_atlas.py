"""Where each part of the procedural head lies in its texture, and what lies under each texel.

The skin is unrolled by longitude and height, cut open along the back of the head, with more room for the face than for the
rest. Eyeballs and ears are discs about their poles; the mouth's bag and the two rows of teeth are strips.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from avatar_models.heads import procedural_shape as shape
from avatar_models.heads.procedural_mesh import (
    EAR,
    EYE_LEFT,
    EYE_RIGHT,
    MOUTH,
    RIM,
    RINGS,
    SKIN,
    TEETH_LOWER,
    TEETH_UPPER,
    head_mesh,
)
from avatar_models.mesh_render import rasterise

Array = NDArray[np.float64]
Range = tuple[float, float]
# Places are shares of the texture's side, from its upper left corner.
LONGITUDES = ((-np.pi, -0.75, 0.75, np.pi), (0.006, 0.24, 0.76, 0.994))
HEIGHTS = ((shape.V_BOTTOM, -100.0, 70.0, shape.V_TOP), (0.745, 0.645, 0.13, 0.006))
EYE_DISCS = {EYE_LEFT: (0.11, 0.875), EYE_RIGHT: (0.33, 0.875)}
EYE_DISC, EAR_DISC = 0.1, 0.073
EAR_DISCS = ((0.52, 0.84), (0.69, 0.84))  # left, right
MOUTH_STRIP = ((0.79, 0.99), (0.77, 0.93))  # x, y
RIM_STRIPS = (((0.79, 0.99), (0.945, 0.963)), ((0.79, 0.99), (0.972, 0.99)))  # left, right
TEETH_STRIPS = {TEETH_UPPER: ((0.45, 0.76), (0.953, 0.925)), TEETH_LOWER: ((0.45, 0.76), (0.968, 0.994))}


@dataclass(frozen=True)
class Atlas:
    """T places for F triangles: a vertex on the seam has several."""

    places: Array  # (T, 2) in [0, 1], x to the right, y down
    faces: NDArray[np.int64]  # (F, 3) places of the triangles' corners
    vertex: NDArray[np.int64]  # (T,) the vertex that lies there


@dataclass(frozen=True)
class HeadPoints:
    """Points of the neutral head that can be painted. N points."""

    position: Array  # (N, 3) mm
    part: NDArray[np.int64]  # (N,)
    place: Array  # (N, 2) on the part, as HeadMesh has it; around a pole it means nothing between vertices


@dataclass(frozen=True)
class Texels:
    """What lies under the texels of a texture of a side: N of them are covered."""

    points: HeadPoints
    nearest: NDArray[np.int64]  # (side, side) the covered texel that is nearest: itself, or whose colour spills over there


@cache
def head_atlas() -> Atlas:
    """The atlas; the same arrays at every call."""
    mesh = head_mesh()
    vertex = np.arange(len(mesh.vertices))
    place, faces = mesh.place, mesh.faces.copy()
    top = int(np.flatnonzero((mesh.part == SKIN) & (place[:, 1] == shape.V_TOP))[0])

    # The last column of the grid lies at longitude pi; the triangles behind it need it at -pi.
    longitude = place[:, 0]
    across = (mesh.part[faces] == SKIN).all(1) & (np.ptp(np.where(faces == top, 0.0, longitude[faces]), axis=1) > np.pi)
    behind = np.unique(faces[across][longitude[faces[across]] > 3.0])
    copies = np.full(len(vertex), -1)
    copies[behind] = len(vertex) + np.arange(len(behind))
    faces[across] = np.where(copies[faces[across]] >= 0, copies[faces[across]], faces[across])
    place = np.concatenate([place, place[behind] - [2 * np.pi, 0.0]])
    vertex = np.concatenate([vertex, behind])

    fan = np.flatnonzero((faces == top).any(1))  # the crown's triangles meet in one vertex: one place for each
    others = faces[fan][faces[fan] != top].reshape(-1, 2)
    crown = np.stack([place[others, 0].mean(1), np.full(len(fan), shape.V_TOP)], 1)
    faces[fan] = np.where(faces[fan] == top, len(vertex) + np.arange(len(fan))[:, None], faces[fan])
    place = np.concatenate([place, crown])
    vertex = np.concatenate([vertex, np.full(len(fan), top)])
    return Atlas(_in_texture(place, mesh.part[vertex], mesh.vertices[vertex, 0] > 0), faces, vertex)


def _in_texture(place: Array, part: NDArray[np.int64], left: NDArray[np.bool_]) -> Array:
    """Places on the parts (T, 2) as places in the texture (T, 2)."""
    found = np.stack([np.interp(place[:, 0], *LONGITUDES), np.interp(place[:, 1], *HEIGHTS)], 1)

    def disc(centre: tuple[float, float], share: Array, around: Array, radius: float) -> Array:
        return np.asarray(centre) + radius * share[:, None] * np.stack([np.cos(around), -np.sin(around)], 1)

    def strip(place: Array, along: Range, layers: int, x: Range, y: Range) -> Array:
        return np.stack([np.interp(place[:, 0], along, x), np.interp(place[:, 1], (0, layers), y)], 1)

    for eye, centre in EYE_DISCS.items():
        chosen = part == eye
        share = (place[chosen, 0] / RINGS[-1]) ** 0.75  # more room for the iris
        found[chosen] = disc(centre, share, place[chosen, 1], EYE_DISC)
    for centre, side in zip(EAR_DISCS, (left, ~left), strict=True):
        chosen = (part == EAR) & side
        found[chosen] = disc(centre, place[chosen, 0] / 5.0, place[chosen, 1], EAR_DISC)
    width = np.abs(place[part == TEETH_UPPER, 0]).max()
    for row, (x, y) in TEETH_STRIPS.items():
        found[part == row] = strip(place[part == row], (-width, width), 1, x, y)
    corner = np.abs(place[part == MOUTH, 0]).max()
    found[part == MOUTH] = strip(place[part == MOUTH], (-corner, corner), 3, *MOUTH_STRIP)
    for side, (x, y) in zip((left, ~left), RIM_STRIPS, strict=True):
        chosen = (part == RIM) & side
        found[chosen] = strip(place[chosen], (0, 1), 1, x, y)
    return found


@lru_cache(maxsize=2)
def head_texels(side: int) -> Texels:
    """What lies under a texture of side x side texels."""
    mesh, atlas = head_mesh(), head_atlas()
    flat = np.concatenate([atlas.places * side, np.ones((len(atlas.places), 1))], 1)
    surface = rasterise(flat, atlas.faces, np.eye(3), np.eye(4), side, side)
    covered = surface.triangle >= 0
    corners = atlas.vertex[atlas.faces[surface.triangle[covered]]]  # (N, 3)
    weights = surface.barycentric[covered][..., None].astype(np.float64)
    points = HeadPoints(
        (mesh.vertices[corners] * weights).sum(1), mesh.part[corners[:, 0]], (mesh.place[corners] * weights).sum(1)
    )
    row, column = distance_transform_edt(~covered, return_distances=False, return_indices=True)
    number = np.cumsum(covered.ravel()).reshape(covered.shape) - 1
    return Texels(points, number[row, column])
