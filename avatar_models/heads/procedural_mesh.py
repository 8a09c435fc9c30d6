"""The procedural head's surface as a mesh: a grid over the sculpture, cut open at the lips and the eyes, and what lies inside.

Millimetres here, as in :mod:`avatar_models.heads.procedural_shape`. A vertex knows the part of the head that it belongs to,
and of which lip it is, so that the modes and the paint can tell them apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from avatar_models.heads import procedural_shape as shape

Array = NDArray[np.float64]
SKIN, EYE_LEFT, EYE_RIGHT, MOUTH, TEETH_UPPER, TEETH_LOWER, EAR, RIM = range(8)
LID_SNAP = 1.1
RINGS = np.radians([0.0, 5.0, 9.5, 10.5, 20.0, 28.5, 30.5, 42.0, 60.0, 80.0, 100.0, 130.0])
SEGMENTS = 24
TOOTH = 7.0  # mm across


@dataclass(frozen=True)
class HeadMesh:
    """The neutral head. V vertices, F triangles."""

    vertices: Array  # (V, 3) mm
    faces: NDArray[np.int64]  # (F, 3) counter-clockwise seen from outside
    part: NDArray[np.int64]  # (V,)
    lower_lip: NDArray[np.bool_]  # (V,) of the lower lip's side of the slit
    slit_upper: NDArray[np.int64]  # vertices along the slit, by x
    slit_lower: NDArray[np.int64]
    place: Array
    """(V, 2) where a vertex lies on its own part: skin by longitude and height, eyeballs by the angle from their pole and
    around it, the mouth's bag by x and layer, teeth by x and from edge to root, ears by ring and around it, the eyes' rims
    along the lids and from them to the ball."""


@cache
def head_mesh() -> HeadMesh:
    """The mesh; the same arrays at every call."""
    skin, faces, place, lower_lip, slit_upper, slit_lower = _skin()
    vertices, parts, lower, triangles, places = [skin], [np.full(len(skin), SKIN)], [lower_lip], [faces], [place]

    def add(
        points: Array, new_faces: NDArray[np.int64], place: Array, part: int, is_lower: NDArray[np.bool_] | bool = False
    ) -> None:
        triangles.append(new_faces + sum(len(v) for v in vertices))
        vertices.append(points)
        parts.append(np.full(len(points), part))
        places.append(place)
        lower.append(np.broadcast_to(is_lower, len(points)))

    for side, part in ((1.0, EYE_LEFT), (-1.0, EYE_RIGHT)):
        add(*_eyeball(side), part)
    add(*_mouth_bag(skin[slit_upper]), MOUTH, np.repeat([False, False, True, True], len(slit_upper)))
    add(*_teeth(up=True), TEETH_UPPER)
    add(*_teeth(up=False), TEETH_LOWER, True)
    for side in (1.0, -1.0):
        add(*_ear(side), EAR)
    for side in (1.0, -1.0):
        add(*_rim(side), RIM)
    return HeadMesh(
        # A linear solver's last digits depend on its threads; rounded, the head is the same everywhere.
        np.concatenate(vertices).round(4),
        np.concatenate(triangles),
        np.concatenate(parts),
        np.concatenate(lower),
        slit_upper,
        slit_lower,
        np.concatenate(places),
    )


def _columns() -> Array:
    front = np.arange(0.0, 0.62, 0.0165)
    side = np.linspace(front[-1] + 0.03, np.pi, 22)
    half = np.concatenate([front, side])
    return np.concatenate([-half[1:-1][::-1], half])  # pi once: the grid is closed there


def _rows() -> Array:
    parts = [
        np.linspace(shape.V_BOTTOM, -100, 14), np.linspace(-94, -66, 9), np.arange(-63.6, 36, 2.0), np.linspace(38, 62, 9),
        np.linspace(68, shape.V_TOP - 1.0, 20),
    ]  # fmt: skip
    rows = np.concatenate(parts)
    rows[np.abs(rows + 41.6).argmin()] = -41.6  # a row runs along the lips
    return rows


def _skin() -> tuple[Array, NDArray[np.int64], Array, NDArray[np.bool_], NDArray[np.int64], NDArray[np.int64]]:
    theta, v = _columns(), _rows()
    T, V = np.meshgrid(theta, v)
    flat = T.ravel(), V.ravel()
    x = np.abs(shape.base_surface(*flat)[:, 0])
    at_mouth = np.exp(-(((flat[1] + 41.6) / 9.0) ** 2)) * (np.abs(flat[0]) < 0.8)
    bent = flat[1] + (shape.mouth_line(x) + 41.6) * at_mouth
    points = shape.base_surface(flat[0], bent)
    points = _snap_to_lids(points)
    points = shape.add_relief(points)
    rows, columns = V.shape
    index = np.arange(rows * columns).reshape(V.shape)

    mouth_row = int(np.abs(v + 41.6).argmin())
    in_slit = np.abs(points[index[mouth_row], 0]) < shape.MOUTH_CORNER[0]
    in_slit &= np.abs(theta) < 0.8
    slit_upper = index[mouth_row][in_slit]
    slit_lower = len(points) + np.arange(len(slit_upper))
    below = index.copy()
    below[mouth_row][in_slit] = slit_lower
    points = np.concatenate([points, points[slit_upper]])
    place = np.stack(flat, 1)
    place = np.concatenate([place, place[slit_upper], [[0.0, shape.V_TOP]]])

    lower_corner, upper_corner = index[:-1].copy(), index[1:].copy()
    upper_corner[mouth_row - 1] = below[mouth_row]  # the quads under the slit hang on its lower copy
    a, b = lower_corner, np.roll(lower_corner, -1, 1)
    d, c = upper_corner, np.roll(upper_corner, -1, 1)
    quads = np.stack([a, b, c, d], -1).reshape(-1, 4)
    faces = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    top = len(points)
    points = np.concatenate([points, [[0.0, points[index[-1], 1].mean(), shape.AXIS_Z]]])
    last = index[-1]
    faces = np.concatenate([faces, np.stack([last, np.roll(last, -1), np.full(columns, top)], 1)])
    faces = faces[~_inside_eye(points[faces].mean(1))]
    lower = np.zeros(len(points), bool)
    lower[slit_lower] = True
    lower[: rows * columns] = (flat[1] < -41.6) & (np.arange(rows * columns) < mouth_row * columns)
    return points, faces, place, lower, slit_upper, slit_lower


def _snap_to_lids(points: Array) -> Array:
    """Moves grid points near the lids' edge onto it, so that the opening has a smooth border."""
    contour = shape.eye_opening(40)
    moved = points.copy()
    for sign in (1.0, -1.0):
        flat = points[:, :2] * [sign, 1.0]
        distance = np.linalg.norm(flat[:, None] - contour[None], axis=-1)
        nearest = distance.argmin(1)
        near = (distance.min(1) < LID_SNAP) & (points[:, 2] > 0)
        moved[near, :2] = contour[nearest[near]] * [sign, 1.0]
    return moved


def _inside_eye(centres: Array) -> NDArray[np.bool_]:
    x = np.abs(centres[:, 0])
    across = (x - shape.EYE_INNER[0]) / (shape.EYE_OUTER[0] - shape.EYE_INNER[0])
    s = np.clip(across, 0.0, 1.0)
    contour = shape.eye_opening(40)
    upper = np.interp(x, contour[:41, 0], contour[:41, 1])
    bottom = contour[np.r_[0, len(contour) - 1 : 40 : -1, 40]]
    lower = np.interp(x, bottom[:, 0], bottom[:, 1])
    return (across > 0) & (across < 1) & (centres[:, 1] < upper) & (centres[:, 1] > lower) & (centres[:, 2] > 0) & (s >= 0)


def _eyeball(side: float) -> tuple[Array, NDArray[np.int64], Array]:
    angle = np.arange(SEGMENTS) * 2 * np.pi / SEGMENTS
    ring = RINGS[1:, None]
    unit = np.stack([np.sin(ring) * np.cos(angle), np.sin(ring) * np.sin(angle), np.cos(ring) + 0 * angle], -1)
    points = np.concatenate([[[0.0, 0.0, 1.0]], unit.reshape(-1, 3)]) * shape.EYE_RADIUS
    first = 1 + np.arange(SEGMENTS)
    faces = [np.stack([np.zeros(SEGMENTS, int), first, np.roll(first, -1)], 1)]
    for r in range(len(RINGS) - 2):
        a, b = first + r * SEGMENTS, first + (r + 1) * SEGMENTS
        faces += [np.stack([a, b, np.roll(b, -1)], 1), np.stack([a, np.roll(b, -1), np.roll(a, -1)], 1)]
    return points + shape.EYE_CENTRE * [side, 1.0, 1.0], np.concatenate(faces), _rings(RINGS, angle)


def _rim(side: float) -> tuple[Array, NDArray[np.int64], Array]:
    """The flesh between the lids' edge and the ball: the corners of the opening reach further than the ball does."""
    contour = shape.eye_opening(16)
    contour = np.concatenate([contour, contour[:1]])
    out = contour - shape.EYE_CENTRE[:2]
    length = np.linalg.norm(out, axis=1, keepdims=True)
    under_lid = np.concatenate([contour + 1.2 * out / length, shape.lid_height(length + 1.2) - 0.9], 1)
    inner = np.minimum(0.9 * length, 10.8)
    at_ball = shape.EYE_CENTRE[2] + np.sqrt((shape.EYE_RADIUS - 0.2) ** 2 - inner**2)
    on_ball = np.concatenate([shape.EYE_CENTRE[:2] + out / length * inner, at_ball], 1)
    points = np.concatenate([under_lid, on_ball]) * [side, 1.0, 1.0]
    count = len(contour)
    c = np.arange(count - 1)
    a, b = c, c + count
    faces = np.concatenate([np.stack([a, a + 1, b + 1], 1), np.stack([a, b + 1, b], 1)])
    place = np.stack([np.tile(np.arange(count) / (count - 1.0), 2), np.repeat([0.0, 1.0], count)], 1)
    return points, faces if side > 0 else faces[:, ::-1], place


def _rings(radius: Array, angle: Array) -> Array:
    """Places (1 + rings * angles, 2) by radius and angle of a pole and the rings about it."""
    around = np.stack(np.meshgrid(radius[1:], angle, indexing="ij"), -1).reshape(-1, 2)
    return np.concatenate([[[radius[0], 0.0]], around])


def _mouth_bag(slit: Array) -> tuple[Array, NDArray[np.int64], Array]:
    """The dark inside: from the slit's upper edge back, down, and forward to its lower edge."""
    count = len(slit)
    depth = 26.0 * np.sqrt(np.clip(1 - (slit[:, 0] / shape.MOUTH_CORNER[0]) ** 2, 0.0, 1.0))
    back = slit - np.stack([0 * depth, 0 * depth, 2.0 + depth], 1)
    points = np.concatenate([slit - [0, 0, 0.4], back + [0, 9.0, 0], back - [0, 12.0, 0], slit - [0, 0, 0.4]])
    c = np.arange(count - 1)
    faces = []
    for layer in range(3):
        a, b = c + layer * count, c + (layer + 1) * count
        faces += [np.stack([a, a + 1, b + 1], 1), np.stack([a, b + 1, b], 1)]
    place = np.stack([np.tile(slit[:, 0], 4), np.repeat(np.arange(4.0), count)], 1)
    return points, np.concatenate(faces), place


def _teeth(up: bool) -> tuple[Array, NDArray[np.int64], Array]:
    x = np.linspace(-22.0, 22.0, 33)
    z = 47.5 - (x / 22.0) ** 2 * 13.0
    edge, root = (-43.0, -31.0) if up else (-43.6, -54.0)
    scallop = 0.8 * np.abs(np.sin(x / TOOTH * np.pi)) * (1 if up else -1)
    points = np.concatenate([np.stack([x, edge + scallop, z], 1), np.stack([x, root + 0 * x, z - 2.0], 1)])
    c = np.arange(len(x) - 1)
    a, b = c, c + len(x)
    place = np.stack([np.tile(x, 2), np.repeat([0.0, 1.0], len(x))], 1)
    return points, np.concatenate([np.stack([a, a + 1, b + 1], 1), np.stack([a, b + 1, b], 1)]), place


def _ear(side: float) -> tuple[Array, NDArray[np.int64], Array]:
    """A shell: an ellipse whose rear stands off the skull, deeper in its middle."""
    angle = np.arange(20) * 2 * np.pi / 20
    points = [[3.0, 0.0, 0.0]]
    for radius, lift in ((0.45, 4.0), (0.8, 7.5), (1.0, 9.5), (0.97, 3.0), (0.75, -3.0)):
        lobe = 1.0 - 0.25 * (np.sin(angle) < -0.3) * np.abs(np.sin(angle))
        rear = 1.0 - 0.6 * shape.smoothstep(-0.2, 0.9, np.cos(angle))
        points += np.stack(
            [lift * np.where(lift > 0, rear, 1.0), 30 * radius * np.sin(angle), 17 * radius * lobe * np.cos(angle)], 1
        ).tolist()
    local = np.asarray(points)
    tilt = np.radians(12.0)
    y, z = (
        local[:, 1] * np.cos(tilt) + local[:, 2] * np.sin(tilt),
        local[:, 2] * np.cos(tilt) - local[:, 1] * np.sin(tilt),
    )
    flare = 0.35 * np.clip(-z, -10.0, None)
    placed = np.stack([side * (74.0 + local[:, 0] + flare), y + 3.0, z - 52.0], 1)
    first = 1 + np.arange(20)
    faces = [np.stack([np.zeros(20, int), first, np.roll(first, -1)], 1)]
    for r in range(4):
        a, b = first + 20 * r, first + 20 * (r + 1)
        faces += [np.stack([a, b, np.roll(b, -1)], 1), np.stack([a, np.roll(b, -1), np.roll(a, -1)], 1)]
    joined = np.concatenate(faces)
    return placed, joined if side < 0 else joined[:, ::-1], _rings(np.arange(6.0), angle)
