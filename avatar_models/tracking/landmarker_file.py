"""The file of MediaPipe's FaceLandmarker task, which users fetch themselves, and whether it is one. Loads no mediapipe."""

from __future__ import annotations

import zlib
from pathlib import Path
from zipfile import BadZipFile, ZipFile

MEMBERS = ("face_landmarks_detector.tflite", "face_blendshapes.tflite")
LANDMARKER_URL = (
    "https://storage.googleapis.com/mediapipe-models/face_landmarker/face_landmarker/float16/1/face_landmarker.task"
)


class LandmarkerError(ValueError):
    """The file is not MediaPipe's face landmarker; the message names it and the way out."""


def read_landmarker(path: Path) -> bytes:
    """The task's bytes, once it is known to be one. Raises LandmarkerError."""
    way_out = f"get it from {LANDMARKER_URL} (Apache-2.0), or leave the name empty for the model in the mediapipe wheel"
    try:
        with ZipFile(path) as task:
            missing = [name for name in MEMBERS if name not in task.namelist()]
            broken = task.testzip()
    except OSError as error:
        raise LandmarkerError(f"{path}: {error.strerror or error}; {way_out}") from None
    except (BadZipFile, EOFError, NotImplementedError, RuntimeError, zlib.error) as error:
        raise LandmarkerError(f"{path}: not MediaPipe's face_landmarker.task, which is a zip ({error}); {way_out}") from None
    if missing or broken:
        what = f"has no {' and no '.join(missing)}" if missing else f"{broken} is damaged"
        raise LandmarkerError(f"{path}: not MediaPipe's face_landmarker.task: {what}; {way_out}")
    return path.read_bytes()
