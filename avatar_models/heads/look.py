"""A plain look for a head model that has none: skin, lips, brows, eyes with irises, teeth. Enough for a face detector."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from avatar_models.colors import HAIRS, IRISES, SKINS

Array = NDArray[np.float64]
BROWS = ((70, 63, 105, 66, 107), (300, 293, 334, 296, 336))  # numbers of the detector's points
LIPS = (
    (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185, 61),
    (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191, 78),
)
BROW_WIDTH, LIP_WIDTH, IRIS, PUPIL = 0.0035, 0.0035, 0.0058, 0.0024  # metres
SOFT = 0.0012


def plain_look(
    template: Array, masks: Mapping[str, torch.Tensor], points: Array | None
) -> Callable[[np.random.Generator], NDArray[np.float32]]:
    """Draws vertex colours (V, 3) of another person at each call. template (V, 3) metres.

    `points` (478, 3) are where the detector's points lie on it; without them there are no lips and brows yet.
    """
    brows = lips = np.zeros(len(template))
    if points is not None:
        front = template[:, 2] > points[:, 2].min()
        brows = np.maximum.reduce([_near(template, points[list(brow)], BROW_WIDTH) for brow in BROWS]) * front
        lips = np.maximum.reduce([_near(template, points[list(ring)], LIP_WIDTH) for ring in LIPS]) * front

    def look(rng: np.random.Generator) -> NDArray[np.float32]:
        skin = np.asarray(SKINS[rng.integers(len(SKINS))]) * rng.uniform(0.94, 1.04, 3)
        hair, iris = np.asarray(HAIRS[rng.integers(len(HAIRS))]), np.asarray(IRISES[rng.integers(len(IRISES))])
        colors = np.tile(skin, (len(template), 1))
        colors = _mix(colors, skin * [0.9, 0.58, 0.58], lips)
        colors = _mix(colors, 0.7 * hair + 0.15 * skin, brows)
        for name in ("mouth", "teeth"):
            if name in masks:
                colors[masks[name].numpy()] = (0.86, 0.84, 0.78) if name == "teeth" else (0.35, 0.13, 0.12)
        for name in ("eyes_left", "eyes_right"):
            ball = masks[name].numpy()
            pole = template[ball][template[ball][:, 2].argmax()]
            away = np.linalg.norm(template[ball] - pole, axis=1)
            eye = _mix(np.full((ball.sum(), 3), 0.88), iris, _fade(away, IRIS))
            colors[ball] = _mix(eye, np.full(3, 0.04), _fade(away, PUPIL))
        return colors.astype(np.float32)

    return look


def _near(vertices: Array, line: Array, width: float) -> Array:
    """How near (V,) vertices are to a line of points: 1 within the width, fading out behind it."""
    distance = np.full(len(vertices), np.inf)
    for a, b in pairwise(line):
        along = np.clip((vertices - a) @ (b - a) / max((b - a) @ (b - a), 1e-12), 0, 1)
        distance = np.minimum(distance, np.linalg.norm(vertices - a - along[:, None] * (b - a), axis=1))
    return _fade(distance, width)


def _fade(distance: Array, width: float) -> Array:
    return np.clip((width + SOFT - distance) / SOFT, 0.0, 1.0)


def _mix(colors: Array, other: Array, share: Array) -> Array:
    return colors + share[:, None] * (other - colors)
