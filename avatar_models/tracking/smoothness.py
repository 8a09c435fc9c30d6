"""How quickly a frame's unknowns change: rotation, translation, expression, jaw, eyes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from avatar_models.tracking.landmark_head import LandmarkHead

Array = NDArray[np.float64]
NUM_POSE = 6
NUM_JAW = 3
NUM_EYES = 2  # both eyes turn together: about x, about y


@dataclass(frozen=True)
class Smoothness:
    """Each: standard deviation of the second difference from frame to frame, and how large a jump is that is let go.

    A head has inertia, lips and lids are quick: the pose is held firmly, the mouth loosely.
    """

    rotation: tuple[float, float] = (0.00045, 0.0135)  # radians
    translation: tuple[float, float] = (0.00006, 0.0018)  # metres
    expression: tuple[float, float] = (0.009, 0.15)
    mouth: tuple[float, float] = (0.035, 0.15)  # expressions that move the lips
    blink: tuple[float, float] = (0.15, 0.45)
    jaw: tuple[float, float] = (0.02, 0.06)  # radians
    eyes: tuple[float, float] = (0.0055, 0.09)  # radians

    def of_unknowns(self, model: LandmarkHead) -> tuple[Array, Array]:
        """Precision and jump (F,) of a frame's unknowns."""
        kind = np.where(model.blinks, 2, np.where(model.mouth, 1, 0))
        of_expression = np.array([self.expression, self.mouth, self.blink])[kind]
        pose, turns = (
            np.repeat([self.rotation, self.translation], 3, 0),
            np.repeat([self.jaw, self.eyes], (NUM_JAW, NUM_EYES), 0),
        )
        sigma, jump = np.concatenate([pose, of_expression, turns]).T
        return 1 / sigma**2, jump
