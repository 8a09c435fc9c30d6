"""Foreground mattes of head crops with MediaPipe's selfie segmentation."""

from __future__ import annotations

import mediapipe as mp
import numpy as np
from numpy.typing import NDArray

from avatar_models.tracking.landmarker import quiet_native_log


class Matter:
    """Soft mattes of square crops. Make a new one for each clip (10 ms), so that nothing passes between clips."""

    def __init__(self) -> None:
        with quiet_native_log():
            self._model = mp.solutions.selfie_segmentation.SelfieSegmentation(model_selection=0)
            self._model.process(np.zeros((64, 64, 3), np.uint8))

    def matte(self, crop: NDArray[np.uint8], inside: NDArray[np.bool_] | None = None) -> NDArray[np.uint8]:
        """(H, W, 3) RGB -> (H, W), 255 is the person. Where `inside` is False there was no picture: 0."""
        mask = self._model.process(crop).segmentation_mask
        matte = np.round(np.clip(mask, 0.0, 1.0) * 255).astype(np.uint8)
        if inside is not None:
            matte[~inside] = 0
        return matte

    def close(self) -> None:
        self._model.close()
