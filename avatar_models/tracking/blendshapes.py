"""ARKit's 52 scores of expression, as MediaPipe's FaceLandmarker gives them, as a first guess of a head's coefficients.

Left and right are the subject's. N frames, E expression coefficients.
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from avatar_models.heads.interface import Head

Array = NDArray[np.float64]
# fmt: off
NAMES = (
    "_neutral", "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight", "cheekPuff",
    "cheekSquintLeft", "cheekSquintRight", "eyeBlinkLeft", "eyeBlinkRight", "eyeLookDownLeft", "eyeLookDownRight",
    "eyeLookInLeft", "eyeLookInRight", "eyeLookOutLeft", "eyeLookOutRight", "eyeLookUpLeft", "eyeLookUpRight",
    "eyeSquintLeft", "eyeSquintRight", "eyeWideLeft", "eyeWideRight", "jawForward", "jawLeft", "jawOpen", "jawRight",
    "mouthClose", "mouthDimpleLeft", "mouthDimpleRight", "mouthFrownLeft", "mouthFrownRight", "mouthFunnel", "mouthLeft",
    "mouthLowerDownLeft", "mouthLowerDownRight", "mouthPressLeft", "mouthPressRight", "mouthPucker", "mouthRight",
    "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper", "mouthSmileLeft", "mouthSmileRight",
    "mouthStretchLeft", "mouthStretchRight", "mouthUpperUpLeft", "mouthUpperUpRight", "noseSneerLeft", "noseSneerRight",
)
# fmt: on
"""The scores' names in the detector's order; there is none for the tongue."""
FULL_JAW, FULL_LOOK = 0.4, 0.5
"""Radians of jaw and gaze at a score of 1, from pictures of the procedural head with known angles."""


def expression_guess(head: Head, blendshapes: NDArray[np.floating]) -> Array:
    """Coefficients (N, E) from scores (N, 52): zero where the head has no expression of the name, and for a PCA's head."""
    scores = _checked(blendshapes)
    guess = np.zeros((len(scores), head.num_expression))
    if head.one_sided:
        for column, name in enumerate(head.expression_names):
            sources = [NAMES.index(source) for source in _sources(name)]
            if sources:
                guess[:, column] = scores[:, sources].mean(1)
    return guess


def jaw_guess(blendshapes: NDArray[np.floating]) -> Array:
    """The jaw's turn (N, 3) as axis-angle in radians, from scores (N, 52)."""
    opened = FULL_JAW * _checked(blendshapes)[:, NAMES.index("jawOpen")]
    return np.stack([opened, 0 * opened, 0 * opened], 1)


def gaze_guess(blendshapes: NDArray[np.floating]) -> Array:
    """The eyes' turns (N, 6), left then right, as axis-angle in radians, from scores (N, 52)."""
    scores = _checked(blendshapes)

    def look(way: str, side: str) -> Array:
        return FULL_LOOK * scores[:, NAMES.index(f"eyeLook{way}{side}")]

    eyes = []
    for side, to_the_left in (("Left", 1.0), ("Right", -1.0)):
        down, yaw = look("Down", side) - look("Up", side), to_the_left * (look("Out", side) - look("In", side))
        eyes += [down, yaw, 0 * yaw]
    return np.stack(eyes, 1)


def _sources(name: str) -> list[str]:
    """The scores that stand for a head's expression: its own; ICT's halves of one score; two that a head has as one."""
    sided = re.sub("_R$", "Right", re.sub("_L$", "Left", name))
    whole = re.sub("(_[LR]|Left|Right)$", "", name)
    for found in ([sided], [whole], [f"{name}Lower", f"{name}Upper"], [f"{name}Left", f"{name}Right"]):
        if all(source in NAMES for source in found):
            return found
    return []


def _checked(blendshapes: NDArray[np.floating]) -> Array:
    if blendshapes.ndim != 2 or blendshapes.shape[1] != len(NAMES):
        raise ValueError(f"blendshapes must be (N, {len(NAMES)}), are {blendshapes.shape}")
    return np.clip(blendshapes.astype(np.float64), 0.0, 1.0)
