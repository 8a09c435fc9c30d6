"""Colours of the procedural head's vertices: skin with variation, lips, brows, eyes, hair, mouth and teeth."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from avatar_models.heads import procedural_shape as shape
from avatar_models.heads.procedural_mesh import (
    EYE_LEFT,
    EYE_RIGHT,
    MOUTH,
    RINGS,
    SEGMENTS,
    SKIN,
    TEETH_LOWER,
    TEETH_UPPER,
    head_mesh,
)
from avatar_models.heads.procedural_modes import hair_region
from avatar_models.heads.procedural_shape import bump, smoothstep

Array = NDArray[np.float64]
Colour = tuple[float, float, float]  # linear RGB in [0, 1]


@dataclass(frozen=True)
class Palette:
    """The colours of one made-up person."""

    skin: Colour
    lips: Colour
    hair: Colour
    iris: Colour
    seed: int  # of the skin's and the hair's variation


@lru_cache(maxsize=4)
def paint(palette: Palette) -> NDArray[np.float32]:
    """Vertex colours (V, 3) in [0, 1], read-only: a film asks for the same ones in every frame."""
    mesh = head_mesh()
    p = mesh.vertices
    x, y, z = np.abs(p[:, 0]), p[:, 1], p[:, 2]
    rng = np.random.default_rng(palette.seed)
    color = np.tile(np.asarray(palette.skin), (len(p), 1))
    front = smoothstep(-25.0, 10.0, z)
    blush = (
        0.5 * bump(np.stack([x, y], 1), (38, -12), (15, 12))
        + 0.6 * bump(p, (0, -14), (10, 8))
        + 0.3 * bump(p, (0, -80), (14, 9))
    )
    color = color * (1 - (blush * front)[:, None] * [0.02, 0.16, 0.14])
    color *= 1.0 + 0.05 * _waves(p, rng, 24, 40.0)[:, None] + 0.035 * _waves(p, rng, 24, 9.0)[:, None]
    color *= 1 - 0.18 * (smoothstep(6, 2, _eye_distance(x, y)) * front)[:, None]  # the lids' shade
    color *= 1 - 0.35 * (bump(np.stack([x, y], 1), (6.8, -23.5), (2.4, 1.8)) * front)[:, None]  # nostrils

    t = y - shape.mouth_line(np.minimum(x, 30.0))
    up, down = shape.lip_heights(x)
    red = smoothstep(-1.2, 0.6, np.where(mesh.lower_lip | (t < 0), down + t, up - t)) * (x < shape.MOUTH_CORNER[0]) * front
    color = _mix(color, palette.lips, 0.85 * red)
    brow_y = 37.5 + 5.0 * np.sin(np.clip((x - 12) / 42, 0, 1) * np.pi * 0.8)
    thick = np.interp(x, [10, 16, 30, 46, 54], [2.0, 4.2, 3.8, 2.8, 0.6])
    brow = smoothstep(1.3, 0.5, np.abs(y - brow_y) / thick) * smoothstep(9, 13, x) * smoothstep(56, 50, x) * front
    color = _mix(color, np.asarray(palette.hair) * 0.7, 0.9 * brow)
    lashes = smoothstep(1.6, 0.2, _eye_distance(x, y)) * front
    color = _mix(color, (0.10, 0.07, 0.06), 0.75 * lashes)

    strands = 1.0 + 0.25 * _waves(p * [1.0, 0.25, 0.5], rng, 40, 3.5) + 0.15 * _waves(p, rng, 12, 25.0)
    hair = hair_region(p) * (mesh.part == SKIN)
    color = np.where(hair[:, None] > 0, _mix(color, np.clip(np.asarray(palette.hair) * strands[:, None], 0, 1), hair), color)

    for part in (EYE_LEFT, EYE_RIGHT):
        color[mesh.part == part] = _eye(palette.iris, rng)
    color[mesh.part == MOUTH] = (0.22, 0.07, 0.07)
    rows = len(mesh.slit_upper)
    bag = np.flatnonzero(mesh.part == MOUTH)
    color[np.concatenate([bag[rows : 3 * rows]])] = (0.06, 0.02, 0.02)
    color[np.isin(mesh.part, (TEETH_UPPER, TEETH_LOWER))] = (0.86, 0.84, 0.78)
    painted = np.clip(color, 0.0, 1.0).astype(np.float32)
    painted.flags.writeable = False
    return painted


def _mix(color: Array, other: Colour | Array, share: Array) -> Array:
    return color + (np.asarray(other) - color) * share[:, None]


def _waves(p: Array, rng: np.random.Generator, count: int, length: float) -> Array:
    """Smooth random variation (V,) of unit size: a sum of waves of about the given length in mm."""
    direction = rng.normal(size=(count, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    frequency = 2 * np.pi / length * rng.uniform(0.6, 1.6, count)
    return np.asarray(np.sin(p @ (direction * frequency[:, None]).T + rng.uniform(0, 2 * np.pi, count)).sum(1) / np.sqrt(count))


def _eye_distance(x: Array, y: Array) -> Array:
    """Distance (V,) in mm to the lids' edge."""
    contour = shape.eye_opening(24)
    return np.asarray(np.hypot(x[:, None] - contour[:, 0], y[:, None] - contour[:, 1]).min(1))


def _eye(iris: Colour, rng: np.random.Generator) -> Array:
    """Colours of an eyeball's vertices, ring by ring: pupil, iris with a dark rim, white."""
    angle = RINGS[1:, None] + np.zeros(SEGMENTS)
    streaks = 1.0 + 0.18 * rng.normal(size=SEGMENTS)
    white = np.array([0.90, 0.88, 0.86])
    colours = np.where(angle[..., None] < np.radians(10), 0.03, np.asarray(iris) * streaks[:, None])
    colours = np.where(angle[..., None] > np.radians(28), np.asarray(iris) * 0.45, colours)
    colours = np.where(angle[..., None] > np.radians(30), white, colours)
    return np.concatenate([[[0.03, 0.03, 0.03]], colours.reshape(-1, 3)])
