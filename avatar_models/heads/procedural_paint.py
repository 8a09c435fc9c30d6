"""The procedural head painted: the texture of a made-up person, and all of its parts but the skin."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from avatar_models.heads import procedural_shape as shape
from avatar_models.heads.noise import smooth_noise
from avatar_models.heads.procedural_atlas import HeadPoints, head_atlas, head_texels
from avatar_models.heads.procedural_mesh import EAR, EYE_LEFT, EYE_RIGHT, MOUTH, RIM, SKIN, TEETH_LOWER, TEETH_UPPER, TOOTH
from avatar_models.heads.procedural_shape import smoothstep
from avatar_models.heads.procedural_skin import Palette, Traits, complexion, mixed, paint_skin
from avatar_models.mesh_render import Texture

Array = NDArray[np.float64]
SIDE = 1024
PUPIL, IRIS = 10.0, 29.0  # degrees from the eyeball's pole


@lru_cache(maxsize=2)
def head_texture(palette: Palette, side: int = SIDE) -> Texture:
    """The person's texture of side x side texels, RGB in [0, 1], read-only; about a second for a new one of 1024."""
    texels, atlas = head_texels(side), head_atlas()
    image = paint(texels.points, palette)[texels.nearest]
    image.flags.writeable = False
    return Texture(image, (atlas.places * side).astype(np.float32), atlas.faces)


def paint(points: HeadPoints, palette: Palette) -> NDArray[np.float32]:
    """Colours (N, 3) in [0, 1] of points of the head."""
    color = np.empty((len(points.part), 3))
    for parts, painter in (
        ((SKIN,), _skin), ((EYE_LEFT, EYE_RIGHT), _eye), ((RIM,), _rim), ((MOUTH,), _mouth),
        ((TEETH_UPPER, TEETH_LOWER), _teeth), ((EAR,), _ear),
    ):  # fmt: skip
        chosen = np.isin(points.part, parts)
        color[chosen] = painter(HeadPoints(points.position[chosen], points.part[chosen], points.place[chosen]), palette)
    return np.clip(color, 0.0, 1.0).astype(np.float32)


def _skin(points: HeadPoints, palette: Palette) -> Array:
    return paint_skin(points.position, palette)


def _eye(points: HeadPoints, palette: Palette) -> Array:
    """Pupil, a streaked iris with a dark rim, a white that reddens and has veins away from it, in the upper lid's shade."""
    side = np.where(points.part == EYE_LEFT, 1.0, -1.0)[:, None]
    n = (points.position - shape.EYE_CENTRE * np.where(side > 0, [1, 1, 1], [-1, 1, 1])) / shape.EYE_RADIUS
    away = np.degrees(np.arctan2(np.hypot(n[:, 0], n[:, 1]), n[:, 2]))
    around = n[:, :2] / np.maximum(np.hypot(n[:, 0], n[:, 1]), 1e-6)[:, None]
    seed = palette.seed + 100

    def streaks(count: float, length: float, more: int) -> Array:
        return smooth_noise(np.concatenate([around * count + 3 * side, (away / length)[:, None]], 1), seed + more)

    shade = 1 + 0.17 * streaks(7, 14, 0) + 0.12 * streaks(14, 9, 1) - 0.55 * smoothstep(IRIS - 6, IRIS, away)
    iris = np.asarray(palette.iris) * np.clip(shade, 0.1, 2)[:, None]
    iris = mixed(iris, np.asarray(palette.iris) * [1.45, 1.1, 0.75], 0.6 * smoothstep(17 + 2 * streaks(9, 20, 2), 11, away))
    white = np.array([0.87, 0.85, 0.83]) * (1 + 0.015 * smooth_noise(n * 4, seed + 3))[:, None]
    veins = smoothstep(0.16, 0.0, np.abs(smooth_noise(n * [5, 9, 5], seed + 4) + 0.3 * smooth_noise(n * 14, seed + 5)))
    red = 0.30 * smoothstep(42, 75, away) + 0.22 * veins * smoothstep(36, 52, away)
    color = mixed(mixed(white, (0.78, 0.46, 0.42), red), iris, smoothstep(IRIS + 1, IRIS - 1, away))
    color = mixed(color, (0.02, 0.02, 0.02), smoothstep(PUPIL + 0.8, PUPIL - 0.8, away))
    return color * (1 - 0.42 * smoothstep(0.05, 0.42, n[:, 1]))[:, None]


def _rim(points: HeadPoints, palette: Palette) -> Array:
    """Wet flesh, brighter at the inner corner."""
    inner = smoothstep(24.0, 17.0, np.abs(points.position[:, 0]))
    return np.asarray(palette.skin) * [0.80, 0.46, 0.43] * (0.8 + 0.25 * inner)[:, None]


def _mouth(points: HeadPoints, palette: Palette) -> Array:
    """From the lips' inner side over the palate into the dark, and out again over the tongue."""
    x, layer = np.abs(points.position[:, 0]), points.place[:, 1]
    wet = np.asarray(palette.lips) * [0.62, 0.45, 0.45]
    color = mixed(np.tile(wet, (len(x), 1)), (0.04, 0.012, 0.012), smoothstep(0.05, 0.8, layer) * smoothstep(3.0, 2.75, layer))
    rough = 1 + 0.06 * smooth_noise(points.position / 1.3, palette.seed + 110)
    tongue = np.array([0.42, 0.17, 0.16]) * (rough * (1 - 0.25 * np.exp(-((x / 1.5) ** 2))))[:, None]
    far = np.interp(layer, [1.3, 1.8, 2.6], [0.15, 0.7, 1.0])
    return mixed(
        color, tongue * far[:, None], smoothstep(1.3, 1.65, layer) * smoothstep(2.93, 2.85, layer) * smoothstep(18, 13, x)
    )


def _teeth(points: HeadPoints, palette: Palette) -> Array:
    """Teeth with gaps and gums, darker towards the corners and in the lower row."""
    x, root = np.abs(points.position[:, 0]), points.place[:, 1]
    lower = points.part == TEETH_LOWER
    across = x / TOOTH
    gap = np.minimum(across % 1.0, 1.0 - across % 1.0) * TOOTH
    each = smooth_noise(
        np.stack([np.sign(points.position[:, 0]) * (np.floor(across) + 0.5) * 7, 9.0 * lower, 0 * x], 1), palette.seed + 120
    )
    color = np.array([0.82, 0.78, 0.69]) * (1 + 0.02 * each)[:, None]
    color = mixed(color, (0.74, 0.66, 0.52), 0.5 * smoothstep(0.25, 0.7, root))
    color = color * (1 - 0.55 * smoothstep(0.55, 0.05, gap))[:, None]
    gum = smoothstep(0.62, 0.70, root - 0.10 * smoothstep(2.5, 0.0, gap) + 0.05)
    color = mixed(color, np.asarray(palette.lips) * [0.75, 0.62, 0.62], gum)
    return color * ((1 - 0.18 * lower) * (1 - 0.94 * smoothstep(8, 21, x)))[:, None]


def _ear(points: HeadPoints, palette: Palette) -> Array:
    """A hollow in the middle, a ridge about it, a groove, and the rim; the back is in the shade of the head."""
    p, ring, seed = points.position, points.place[:, 0], palette.seed
    color = complexion(p, palette, Traits.of(palette)) * [1.0, 0.93, 0.92]
    up = (p[:, 1] - 3.0) / 30.0
    hollow = smoothstep(1.45, 0.5, ring + 0.25 * up)
    groove = np.exp(-(((ring - 2.25) / 0.22) ** 2)) * smoothstep(-0.5, 0.1, up)
    ridge = np.exp(-(((ring - 1.75) / 0.22) ** 2)) + np.exp(-(((ring - 2.85) / 0.3) ** 2))
    dark = 0.62 * hollow + 0.38 * groove + 0.35 * smoothstep(3.3, 4.6, ring) + 0.03 * smooth_noise(p / 5, seed + 130)
    return color * (1 - np.clip(dark - 0.06 * ridge, -0.1, 0.9)[:, None] * [0.85, 1.0, 1.0])
