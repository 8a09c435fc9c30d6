"""Whose face a picture shows, as a vector: faces are brought to one place, a network that the user may have embeds them.

CSIM of reenactment papers is the cosine between two such vectors. OpenCV's SFace (Zhong et al. 2021) is under Apache-2.0;
networks of the ArcFace kind take the same faces, so one that papers used can stand in its place. Figures of two networks do
not compare.

Faces are 112 x 112 with the five points of ArcFace's alignment (Deng et al. 2019), as OpenCV and insightface have it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from avatar_models.tracking.quality import LEFT_EYE_CORNERS, RIGHT_EYE_CORNERS

Picture = NDArray[np.uint8]
Array = NDArray[np.float64]

SFACE_URL = "https://github.com/opencv/opencv_zoo/raw/main/models/face_recognition_sface/face_recognition_sface_2021dec.onnx"
SFACE_SHA256 = "0ba9fbfa01b5270c96627c4ef784da859931e02f04419c829e83484087c34e79"
"""As the repository's own pointer to the file states it (38,696,353 bytes). Apache-2.0."""

SIDE = 112
PLACES = np.array([[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]])
"""Where an aligned face has its right eye, left eye, nose tip and the mouth's right and left corner, right being the person's.
Pixel centres are at whole numbers here, as in OpenCV."""

NOSE_TIP, RIGHT_MOUTH_CORNER, LEFT_MOUTH_CORNER = 1, 61, 291  # of MediaPipe's face mesh


class FaceNetworkError(ValueError):
    """A file that is no network of faces; the message names it and says where the right one is."""


class FaceEmbedder(Protocol):
    """Turns an aligned face (112, 112, 3) RGB into a vector (D,), of whatever length: its direction says who it is."""

    def __call__(self, face: Picture) -> NDArray[np.float32]: ...


@dataclass(frozen=True)
class OnnxEmbedder:
    """A network from an ONNX file, run by OpenCV on the CPU."""

    network: Any
    mean: float  # of 8-bit colours, taken off before they are multiplied by `scale`
    scale: float

    def __call__(self, face: Picture) -> NDArray[np.float32]:
        if face.shape != (SIDE, SIDE, 3):
            raise ValueError(f"an aligned face is ({SIDE}, {SIDE}, 3), this is {face.shape}")
        self.network.setInput(cv2.dnn.blobFromImage(face, self.scale, (SIDE, SIDE), (self.mean,) * 3))
        return np.asarray(self.network.forward(), np.float32).ravel()


def load_sface(path: Path) -> OnnxEmbedder:
    """OpenCV's SFace, which takes colours from 0 to 255. Raises FaceNetworkError, FileNotFoundError."""
    return _load(path, 0.0, 1.0, f"get {SFACE_URL}")


def load_arcface(path: Path) -> OnnxEmbedder:
    """A network of the ArcFace kind, which takes colours from -1 to 1. Raises FaceNetworkError, FileNotFoundError."""
    return _load(path, 127.5, 1 / 127.5, "take a network of the ArcFace kind that recognises faces, as ONNX")


def _load(path: Path, mean: float, scale: float, way_out: str) -> OnnxEmbedder:
    content = np.frombuffer(path.read_bytes(), np.uint8)
    try:
        made = OnnxEmbedder(cv2.dnn.readNetFromONNX(content), mean, scale)
        length = len(made(np.zeros((SIDE, SIDE, 3), np.uint8)))
    except cv2.error as error:
        why = f"OpenCV cannot run it ({str(error).strip().splitlines()[-1][:120]})"
        raise FaceNetworkError(f"{path}: not an ONNX network for faces of {SIDE} x {SIDE}: {why}; {way_out}") from None
    if length < 2:
        raise FaceNetworkError(f"{path}: gives {length} number for a face, no direction; {way_out}")
    return made


def five_points(points: NDArray[np.floating]) -> Array:
    """The five points (5, 2) of landmarks (478, 2 or 3), in their unit; eyes are the middles of their corners."""
    flat = np.asarray(points[:, :2], np.float64)
    eyes = [flat[list(corners)].mean(0) for corners in (RIGHT_EYE_CORNERS, LEFT_EYE_CORNERS)]
    return np.stack([*eyes, *flat[[NOSE_TIP, RIGHT_MOUTH_CORNER, LEFT_MOUTH_CORNER]]])


def similarity(points: Array, places: Array) -> Array:
    """The (2, 3) turn, scale and shift that brings points (K, 2) nearest to places (K, 2), without mirroring (Umeyama 1991)."""
    centre, target = points.mean(0), places.mean(0)
    a, b = (np.ascontiguousarray(own).view(np.complex128)[:, 0] for own in (points - centre, places - target))
    turn = np.vdot(a, b) / np.vdot(a, a)  # in the plane, turning and scaling are one complex factor
    A = np.array([[turn.real, -turn.imag], [turn.imag, turn.real]])
    return np.concatenate([A, (target - A @ centre)[:, None]], 1)


def aligned_face(picture: Picture, points: NDArray[np.floating]) -> Picture:
    """The face (112, 112, 3) that landmarks (478, 2 or 3) in pixels, centres at +0.5, mark in a picture (H, W, 3)."""
    return np.asarray(cv2.warpAffine(picture, similarity(five_points(points) - 0.5, PLACES), (SIDE, SIDE)), np.uint8)


def embeddings(embed: FaceEmbedder, pictures: Picture, points: NDArray[np.floating]) -> Array:
    """Unit vectors (T, D) of the faces in pictures (T, H, W, 3) at landmarks (T, 478, 2 or 3); NaN where those are NaN.

    (T, 1) of NaN where no picture has a face.
    """
    seen = np.isfinite(points[..., :2]).all((1, 2))
    found = [embed(aligned_face(pictures[t], points[t])).astype(np.float64) for t in np.flatnonzero(seen)]
    vectors = np.full((len(pictures), len(found[0]) if found else 1), np.nan)
    if found:
        vectors[seen] = np.stack([own / np.linalg.norm(own) for own in found])
    return vectors


def cosine_similarity(vectors: Array, others: Array) -> Array:
    """CSIM (T,) of unit vectors (T, D) and others (T or 1, D), at most 1; NaN where either is."""
    return np.asarray((vectors * others).sum(1))
