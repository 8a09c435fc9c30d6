"""Foreground mattes of head crops: MediaPipe's selfie segmentation, drawn to the picture's own edges by a guided filter.

The network's outline has steps of a pixel or two that differ from frame to frame, and it cuts through hair; the guided filter
(He et al. 2010) makes the matte follow the colours around it.
"""

from __future__ import annotations

import cv2
import mediapipe as mp
import numpy as np
from numpy.typing import NDArray

from avatar_models.tracking.landmarker import quiet_native_log

RADIUS = 6 / 256  # of the filter's window, in sides of the crop
COLOUR_STEP = 5.0  # levels of 255: smaller differences are no edges
FOOT = 0.1
"""What is less sure than this is background, and as near to one is the person: the filter leaves a haze on both sides."""


class Matter:
    """Soft mattes of square crops. Make a new one for each clip (10 ms), so that nothing passes between clips."""

    def __init__(self) -> None:
        with quiet_native_log():
            self._model = mp.solutions.selfie_segmentation.SelfieSegmentation(model_selection=0)
            self._model.process(np.zeros((64, 64, 3), np.uint8))

    def matte(self, crop: NDArray[np.uint8], inside: NDArray[np.bool_] | None = None) -> NDArray[np.uint8]:
        """(H, W, 3) RGB -> (H, W), 255 is the person. Where `inside` is False there was no picture: 0."""
        mask = self._model.process(crop).segmentation_mask
        matte = np.round(to_edges(crop, mask) * 255).astype(np.uint8)
        if inside is not None:
            matte[~inside] = 0
        return matte

    def close(self) -> None:
        self._model.close()


def to_edges(crop: NDArray[np.uint8], mask: NDArray[np.float32]) -> NDArray[np.float32]:
    """A soft mask (H, W) in [0, 1] that follows the edges of its picture (H, W, 3), from a rough one."""
    radius = max(1, round(RADIUS * len(crop)))
    drawn = cv2.ximgproc.guidedFilter(crop, np.clip(mask, 0.0, 1.0), radius, COLOUR_STEP**2)
    return np.clip((drawn - FOOT) / (1 - 2 * FOOT), 0.0, 1.0).astype(np.float32)
