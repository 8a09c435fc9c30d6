"""How the procedural head's skin looks: complexion, lips, lids, brows, beard and hair, painted on points of the neutral head.

All of a person's chances follow from one seed. Lengths are millimetres; colours are RGB in [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from avatar_models.heads import procedural_shape as shape
from avatar_models.heads.noise import smooth_noise, spots
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
    seed: int  # of all variation


@dataclass(frozen=True)
class Traits:
    """What a person's skin and hair are like, drawn from the palette's seed."""

    redness: float
    freckles: float  # strength, 0 for most people
    moles: float  # share of the places that could have one
    age: float  # 0 to 1: lines and bags
    beard: float  # strength of the stubble, 0 for those who have none
    brows: float  # how thick, about 1
    lids: float  # how dark the lids are

    @classmethod
    def of(cls, palette: Palette) -> Traits:
        rng = np.random.default_rng(palette.seed)
        chance = rng.random(7)
        light = float(np.mean(palette.skin))
        return cls(
            redness=0.4 + 0.9 * chance[0],
            freckles=max(0.0, chance[1] - 0.6) * 2.2 * (light > 0.5),
            moles=0.04 + 0.10 * chance[2],
            age=chance[3] ** 2,
            beard=max(0.0, chance[4] - 0.5) * 1.5,
            brows=0.85 + 0.35 * chance[5],
            lids=0.10 + 0.14 * chance[6],
        )


def paint_skin(p: Array, palette: Palette) -> Array:
    """Colours (N, 3) of points (N, 3) on the skin."""
    traits = Traits.of(palette)
    x, y, z = np.abs(p[:, 0]), p[:, 1], p[:, 2]
    front = smoothstep(-25.0, 10.0, z)
    color = complexion(p, palette, traits)
    color = _folds(color, x, y, z, front, traits, p, palette.seed)
    color = _beard(color, p, palette, traits)
    color = _lips(color, p, palette)
    color = _brows(color, p, palette, traits)
    color = _lids(color, p, palette, traits)
    return _hair(color, p, palette)


def complexion(p: Array, palette: Palette, traits: Traits) -> Array:
    """Bare skin (N, 3): shades, blushes, pores, freckles and moles; what an ear is painted with, too."""
    seed = palette.seed
    x, y, z = np.abs(p[:, 0]), p[:, 1], p[:, 2]
    flat = np.stack([x, y], 1)
    front = smoothstep(-25.0, 10.0, z)
    blush = 0.5 * bump(flat, (38, -12), (15, 12)) + 0.55 * bump(flat, (0, -15), (11, 9)) + 0.3 * bump(flat, (0, -80), (14, 9))
    blush = traits.redness * (blush * front + 0.07 * smooth_noise(p / 24, seed + 1) + 0.05 * smooth_noise(p / 7, seed + 2))
    blush += 0.20 * traits.redness * spots(p / 8, seed + 3, 0.12, 0.4)
    color = np.asarray(palette.skin) * (1 - blush[:, None] * [0.03, 0.20, 0.18])
    tone = (
        0.030 * smooth_noise(p / 40, seed + 4) + 0.022 * smooth_noise(p / 12, seed + 5) + 0.018 * smooth_noise(p / 4, seed + 6)
    )
    oily = bump(flat, (0, -10), (14, 16)) + bump(flat, (26, -10), (16, 16)) + bump(flat, (0, 60), (40, 16))
    pores = (0.022 + 0.022 * oily * front) * smooth_noise(p / 1.1, seed + 7)
    color = color * (1 + tone + pores)[:, None] * (1 - 0.02 * smooth_noise(p / 18, seed + 8)[:, None] * [0, 0.4, 1.6])
    sunny = (bump(flat, (26, -4), (22, 13)) + bump(flat, (0, -5), (12, 14)) + 0.3 * bump(flat, (0, 62), (36, 16))) * front
    freckled = traits.freckles * np.minimum(sunny, 1.0) * spots(p / 3.0, seed + 20, 0.45, 0.34)
    color = color * (1 - freckled[:, None] * [0.35, 0.52, 0.60])
    mole = np.minimum(1.0, 2.0 * spots(p / 24, seed + 30, traits.moles, 0.06))
    return color * (1 - mole[:, None] * [0.50, 0.64, 0.68])


def _folds(color: Array, x: Array, y: Array, z: Array, front: Array, traits: Traits, p: Array, seed: int) -> Array:
    """What never sees much light: nostrils, the folds beside the nose, under the chin; and lines that come with age."""
    nostril = smoothstep(1.25, 0.55, np.hypot((x - 6.6) / 3.3, (y + 23.6) / 2.1)) * front
    fold_x = np.interp(y, [-46.0, -32.0, -14.0], [33.0, 29.0, 21.0])
    beside = np.exp(-0.5 * ((x - fold_x) / 1.6) ** 2) * smoothstep(-52, -38, y) * smoothstep(-8, -18, y) * front
    wing = np.exp(-0.5 * ((np.hypot(x - 12.5, y + 16.0) - 7.4) / 1.0) ** 2) * smoothstep(11, 15, x) * (y < -8) * front
    chin = smoothstep(-94.0, -108.0, y) * smoothstep(-150.0, -116.0, y) * smoothstep(-40.0, -15.0, z)
    bent = y + 1.6 * smooth_noise(p / [30, 60, 60], seed + 40)
    lines = sum(np.exp(-0.5 * ((bent - at) / 0.5) ** 2) for at in (58.0, 65.5, 73.0)) * smoothstep(34, 22, x) * front
    lines = lines + 0.8 * sum(np.exp(-0.5 * ((bent - at) / 0.8) ** 2) for at in (-128.0, -141.0))
    dark = 0.72 * nostril + (0.05 + 0.16 * traits.age) * beside + 0.18 * wing + 0.22 * chin + 0.16 * traits.age * lines
    return color * (1 - np.clip(dark, 0, 0.9)[:, None] * [0.85, 1.0, 1.0])


def _lips(color: Array, p: Array, palette: Palette) -> Array:
    x, y, z = np.abs(p[:, 0]), p[:, 1], p[:, 2]
    front = smoothstep(-25.0, 10.0, z)
    t = y - shape.mouth_line(np.minimum(x, 30.0))
    up, down = shape.lip_heights(x)
    inside = np.where(t < 0, down + t, up - t) + 0.25 * smooth_noise(p / 1.5, palette.seed + 50)
    red = smoothstep(-1.1, 0.7, inside) * (x < shape.MOUTH_CORNER[0]) * front
    lines = smooth_noise(p * [1 / 0.7, 0.16, 0.16], palette.seed + 51) + 0.6 * smooth_noise(
        p * [0.6, 0.1, 0.1], palette.seed + 52
    )
    full = np.exp(-(((t + 5.0) / 2.6) ** 2)) * smoothstep(20, 8, x)  # the lower lip's middle is lighter
    lips = np.asarray(palette.lips) * (1 + 0.055 * lines + 0.10 * full - 0.08 * (t > 0))[:, None]
    color = mixed(color, lips, 0.80 * red)
    slit = (
        np.exp(-((t / 0.8) ** 2)) * smoothstep(28.5, 25.5, x) * front
        + 0.5 * bump(np.stack([x, y], 1), (26.5, -43.4), (1.6, 1.4)) * front
    )
    return color * (1 - np.clip(slit, 0, 1)[:, None] * [0.38, 0.5, 0.5])


def _brows(color: Array, p: Array, palette: Palette, traits: Traits) -> Array:
    x, y, z = np.abs(p[:, 0]), p[:, 1], p[:, 2]
    middle = 37.5 + 5.0 * np.sin(np.clip((x - 12) / 42, 0, 1) * np.pi * 0.8)
    thick = traits.brows * np.interp(x, [10, 16, 30, 46, 54], [2.2, 4.2, 3.8, 2.8, 0.6])
    lean = np.interp(x, [12, 24, 44], [0.35, 1.1, 2.8])  # hairs rise at the nose and lie down outwards
    along = np.stack([(x - lean * (y - middle)) / 0.62, (y - middle) / 5.0, np.sign(p[:, 0]) * 9], 1)
    hairs = smooth_noise(along, palette.seed + 60)
    edge = np.abs(y - middle) / thick + 0.16 * hairs
    brow = (
        smoothstep(1.3, 0.45, edge) * smoothstep(9, 13.5, x + 1.2 * hairs) * smoothstep(56, 50, x) * smoothstep(-25.0, 10.0, z)
    )
    dark = np.minimum(np.asarray(palette.hair) * 0.7, np.asarray(palette.skin) * 0.6)
    return mixed(color, dark, np.clip(brow * (0.80 + 0.22 * hairs), 0, 0.95))


def _lids(color: Array, p: Array, palette: Palette, traits: Traits) -> Array:
    """Shade of the sockets, wet rims and lashes. Only what is near the eyes is looked at."""
    x, y, z = np.abs(p[:, 0]), p[:, 1], p[:, 2]
    near = np.flatnonzero((np.abs(x - 31) < 34) & (np.abs(y - 20) < 26) & (z > 0))
    painted, p, x, y = color[near], p[near], x[near], y[near]
    distance = shape.distance_outside_eye(x, y)
    above = y > np.interp(x, [shape.EYE_INNER[0], shape.EYE_OUTER[0]], [shape.EYE_INNER[1], shape.EYE_OUTER[1]])
    flat = np.stack([x, y], 1)
    shade = traits.lids * smoothstep(7, 1.5, distance) + 0.14 * traits.age * bump(flat, (30, 9.5), (11, 3.2))
    shade += 0.16 * np.exp(-0.5 * ((distance - 3.0) / 0.8) ** 2) * above * smoothstep(18, 24, x) * smoothstep(48, 42, x)
    shade += 0.16 * bump(flat, (14.5, 24), (4.0, 7.0))
    painted = painted * (1 - shade[:, None] * [0.8, 1.0, 0.92])
    painted = mixed(painted, np.asarray(palette.skin) * [0.98, 0.66, 0.62], 0.75 * smoothstep(0.9, 0.2, distance) * ~above)
    inner = bump(flat, (shape.EYE_INNER[0] + 0.4, shape.EYE_INNER[1]), (1.5, 1.3))
    painted = mixed(painted, np.asarray(palette.skin) * [0.95, 0.55, 0.52], 0.7 * inner)
    hairs = smooth_noise(
        np.stack([x / 0.55 + 0.4 * (y - 22), distance / 3.0, np.sign(p[:, 0]) * 9], 1), palette.seed + 70
    ).clip(-1.5, 2.0)
    outer = smoothstep(16, 24, x) * smoothstep(46.0, 42.5, x)
    lashes = np.where(
        above,
        0.92 * smoothstep(1.7 + 0.5 * hairs, 0.5, distance),
        0.5 * smoothstep(1.5 + 0.5 * hairs, 0.7, distance) * (distance > 0.5),
    )
    painted = mixed(painted, (0.09, 0.065, 0.06), np.clip(lashes * outer, 0, 1))
    color = color.copy()
    color[near] = painted
    return color


def beard_region(p: Array) -> Array:
    """Where (N,) a beard grows, from 0 to 1."""
    x, y, z = np.abs(p[:, 0]), p[:, 1], p[:, 2]
    top = np.interp(x, [0, 10, 22, 34, 46, 60, 68], [-27, -28, -33, -40, -38, -20, 8])
    below = smoothstep(1.0, -7.0, y - top) * smoothstep(-120.0, -100.0, y)
    t = y - shape.mouth_line(np.minimum(x, 30.0))
    up, down = shape.lip_heights(x)
    lips = smoothstep(-2.5, -0.5, np.where(t < 0, down + t, up - t)) * (x < shape.MOUTH_CORNER[0] + 1)
    return below * (1 - lips) * smoothstep(-42.0, -26.0, z)


def _beard(color: Array, p: Array, palette: Palette, traits: Traits) -> Array:
    if traits.beard == 0.0:
        return color
    patchy = 0.85 + 0.12 * smooth_noise(p / 9, palette.seed + 80)
    dots = smoothstep(-0.4, 1.3, smooth_noise(p / [0.75, 1.0, 0.75], palette.seed + 81))
    share = traits.beard * beard_region(p) * patchy * (0.40 + 0.60 * dots)
    return mixed(color, 0.30 * np.asarray(palette.skin) + 0.45 * np.asarray(palette.hair) + 0.02, np.clip(share, 0, 0.9))


def _hair(color: Array, p: Array, palette: Palette) -> Array:
    """Strands that run down from the crown, with a hairline of single strands."""
    scalp = np.flatnonzero(hair_region(p - [0, 8.0, 0]) + hair_region(p + [0, 8.0, 0]) > 0)
    if len(scalp) == 0:
        return color
    q = p[scalp]
    _, v, _ = shape.places_of(q)
    out = q[:, [0, 2]] - [0.0, shape.AXIS_Z]
    out = 80.0 * out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-6)
    sway = 1.2 * smooth_noise(q / [34, 60, 34], palette.seed + 90)

    def strands(width: float, length: float, seed: int) -> Array:
        return smooth_noise(
            np.stack([(out[:, 0] + sway) / width, v / length, (out[:, 1] + sway) / width], 1), palette.seed + seed
        )

    fine, locks = strands(1.1, 24.0, 91), strands(5.0, 45.0, 92)
    covered = hair_region(q + np.stack([0 * v, 2.2 * fine + 1.6 * locks - 0.8, 0 * v], 1))
    sheen = np.exp(-(((v - 105) / 16) ** 2)) * (1 + 0.5 * locks)
    light = 1.0 + 0.20 * fine + 0.15 * locks + 0.12 * strands(2.2, 30.0, 93) + 0.22 * np.clip(sheen, 0, 2)
    hair = np.clip(np.asarray(palette.hair) * np.clip(light, 0.35, 2.0)[:, None] + 0.012, 0, 1)
    color = color.copy()
    color[scalp] = mixed(color[scalp], hair, np.clip(covered * (1.02 + 0.06 * fine), 0, 1))
    return color


def mixed(color: Array, other: Colour | Array, share: Array) -> Array:
    """Colours (N, 3) drawn towards others by a share (N,)."""
    return color + (np.asarray(other) - color) * share[:, None]
