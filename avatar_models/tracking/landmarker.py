"""The two landmark models that can follow a face in a window: FaceMesh of the mediapipe wheel, and the FaceLandmarker task.

FaceMesh is twice as fast. The task is a file of its own, and gives ARKit's 52 scores of expression beside the points. Its own
points differ from FaceMesh's by about 2.5 % of the distance between the eyes.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

os.environ.setdefault("GLOG_minloglevel", "3")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import mediapipe as mp
import numpy as np
from mediapipe.tasks.python import BaseOptions, vision
from numpy.typing import NDArray

from avatar_models.tracking.blendshapes import NAMES

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Marks:
    """One face in a square window."""

    points: NDArray[np.float32]  # (478, 3) shares of the window's side
    blendshapes: NDArray[np.float32] | None  # (52,) scores, in the order of blendshapes.NAMES


class LandmarkModel(Protocol):
    """Looks at windows (side, side, 3), one after another."""

    def look(self, window: Image) -> Marks | None: ...

    def close(self) -> None: ...


class FaceMesh:
    """The wheel's own model. It follows the face from window to window."""

    def __init__(self) -> None:
        with quiet_native_log():
            self._model = mp.solutions.face_mesh.FaceMesh(max_num_faces=1, refine_landmarks=True)
            self._model.process(np.zeros((64, 64, 3), np.uint8))

    def look(self, window: Image) -> Marks | None:
        found = self._model.process(window).multi_face_landmarks
        return Marks(_points(found[0].landmark), None) if found else None

    def close(self) -> None:
        self._model.close()


class FaceLandmarker:
    """The task, from its file's bytes. It looks at each window by itself: what follows faces would smooth the points, too."""

    def __init__(self, task: bytes) -> None:
        options = vision.FaceLandmarkerOptions(
            base_options=BaseOptions(model_asset_buffer=task), output_face_blendshapes=True, num_faces=1
        )
        with quiet_native_log():
            self._model = vision.FaceLandmarker.create_from_options(options)
            self.look(np.zeros((64, 64, 3), np.uint8))

    def look(self, window: Image) -> Marks | None:
        found = self._model.detect(mp.Image(image_format=mp.ImageFormat.SRGB, data=window))
        if not found.face_landmarks:
            return None
        scores = {score.category_name: score.score for score in found.face_blendshapes[0]}
        return Marks(_points(found.face_landmarks[0]), np.array([scores[name] for name in NAMES], np.float32))

    def close(self) -> None:
        self._model.close()


@contextlib.contextmanager
def quiet_native_log() -> Iterator[None]:
    """Sends the process's stderr to nowhere: MediaPipe's start-up notices obey no setting in this release."""
    saved = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)


def _points(marks: Any) -> NDArray[np.float32]:
    return np.array([(mark.x, mark.y, mark.z) for mark in marks], np.float32)
