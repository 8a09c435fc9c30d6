"""FLAME's own landmark embeddings: the 68 (70 with pupils) points of face alignment, and MediaPipe's 105.

Files that FLAME's owners and their followers give out, licensed like FLAME and not part of this project. The contour of the
face is dynamic: which places of the surface form it depends on how far the head is turned from the camera (RingNet, Sanyal et
al. 2019). B frames, V vertices, F triangles.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from avatar_models.heads.flame import FlameFileError
from avatar_models.pickles import PickleRefused, load_npy

MAX_YAW = 39  # degrees
CONTOUR = 17
MEDIAPIPE_POINTS = 468
MEDIAPIPE_FILE = "mediapipe_landmark_embedding.npz"
LANDMARK_FILES = ("landmark_embedding_with_eyes.npy", "landmark_embedding.npy")


@dataclass(frozen=True)
class SurfacePoints:
    """Places on a mesh, L of them, or tables of such."""

    faces: Tensor  # (..., L) int64 triangles
    barycentric: Tensor  # (..., L, 3)

    def of(self, vertices: Tensor, head_faces: Tensor) -> Tensor:
        """The points (B, L, 3) on vertices (B, V, 3); faces and weights are (L,) or, for each frame its own, (B, L)."""
        corners = head_faces[self.faces]  # (L, 3) or (B, L, 3)
        row = torch.arange(len(vertices))[:, None, None]
        return (vertices[row, corners] * self.barycentric.to(vertices)[..., None]).sum(-2)


@dataclass(frozen=True)
class FlameLandmarks:
    """landmark_embedding.npy, or with the pupils landmark_embedding_with_eyes.npy."""

    static: SurfacePoints  # 51 or 53: brows, nose, eyes, lips (and pupils)
    dynamic: SurfacePoints  # (79, 17) the face's contour by row, see contour_rows
    full: SurfacePoints  # 68 or 70: a contour that stays where it is from in front, then the static ones

    def static_points(self, vertices: Tensor, faces: Tensor) -> Tensor:
        """(B, 51 or 53, 3)."""
        return self.static.of(vertices, faces)

    def contour_points(self, vertices: Tensor, faces: Tensor, turn: Tensor) -> Tensor:
        """(B, 17, 3) of the contour that is seen when the head is turned by `turn` (B, 3, 3), see head_turn."""
        rows = contour_rows(turn)
        return SurfacePoints(self.dynamic.faces[rows], self.dynamic.barycentric[rows]).of(vertices, faces)

    def seen_points(self, vertices: Tensor, faces: Tensor, turn: Tensor) -> Tensor:
        """(B, 68 or 70, 3): the contour that is seen, then the static points."""
        return torch.cat([self.contour_points(vertices, faces, turn), self.static_points(vertices, faces)], 1)

    def full_points(self, vertices: Tensor, faces: Tensor) -> Tensor:
        """(B, 68 or 70, 3) that stay where they are, however the head is turned."""
        return self.full.of(vertices, faces)


def head_turn(viewmat: Tensor, neck: Tensor) -> Tensor:
    """(B, 3, 3) by which the head is turned before the camera: root and neck; the identity looks into it.

    viewmat (B, 4, 4) is the head's frame to the camera's (OpenCV), neck (B, 3, 3) the neck joint's rotation.
    """
    facing = torch.diag(viewmat.new_tensor([1.0, -1.0, -1.0]))
    return facing @ viewmat[:, :3, :3] @ neck


def contour_rows(turn: Tensor) -> Tensor:
    """(B,) rows of the dynamic table for turns (B, 3, 3): yaw in whole degrees, 0 to 39 to one side, 40 to 78 (1 to 39) to the
    other.

    The yaw is that of R = Rz(roll) Ry(yaw) Rx(pitch). It picks rows, so no gradient passes through it.
    """
    R = turn.detach()
    yaw = torch.rad2deg(torch.atan2(-R[:, 2, 0], torch.hypot(R[:, 0, 0], R[:, 1, 0])))
    degrees = yaw.round().long().clamp(-MAX_YAW, MAX_YAW)
    return torch.where(degrees < 0, MAX_YAW - degrees, degrees)


def read_flame_landmarks(path: Path, num_faces: int) -> FlameLandmarks:
    """Reads an embedding for a head of so many triangles; its pickle runs nothing. Raises FlameFileError, OSError."""
    try:
        found = load_npy(path)
    except PickleRefused as error:
        raise FlameFileError(str(error)) from None
    if not isinstance(found, dict):
        raise FlameFileError(f"{path}: holds a {type(found).__name__}, a landmark embedding is a dictionary")
    kinds = {}
    for kind, shapes in (("static", ((51,), (53,))), ("dynamic", ((79, CONTOUR),)), ("full", ((68,), (70,)))):
        faces = _numbers(path, found, f"{kind}_lmk_faces_idx")
        weights = _numbers(path, found, f"{kind}_lmk_bary_coords")
        if kind == "full":  # has a first axis of one
            faces, weights = faces.reshape(-1), weights.reshape(-1, 3)
        kinds[kind] = _points(path, f"{kind}_lmk", faces, weights, shapes, num_faces)
    return FlameLandmarks(**kinds)


def read_mediapipe_landmarks(path: Path, num_faces: int) -> tuple[Tensor, SurfacePoints]:
    """Which of MediaPipe's points (L,) and where they are, from mediapipe_landmark_embedding.npz (L = 105).

    Raises FlameFileError, OSError.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            found = dict(stored)
    except (BadZipFile, EOFError, TypeError, ValueError, zlib.error) as error:
        raise FlameFileError(f"{path}: not an npz file of arrays ({error})") from None
    numbers = _numbers(path, found, "landmark_indices")
    faces, weights = _numbers(path, found, "lmk_face_idx"), _numbers(path, found, "lmk_b_coords")
    whole = numbers.ndim == 1 and numbers.dtype.kind in "iu" and len(np.unique(numbers)) == len(numbers) > 0
    if not whole or numbers.min() < 0 or numbers.max() >= MEDIAPIPE_POINTS:
        raise FlameFileError(f"{path}: landmark_indices must be different numbers from 0 to {MEDIAPIPE_POINTS - 1}")
    points = _points(path, "lmk", faces, weights, (numbers.shape,), num_faces)
    return torch.from_numpy(numbers.astype(np.int64)), points


def _numbers(path: Path, found: dict[str, Any], key: str) -> np.ndarray:
    if key not in found:
        raise FlameFileError(f"{path}: no {key}; it has {', '.join(map(str, found)) or 'nothing'}")
    array = np.asarray(found[key])
    if array.dtype.kind not in "fiu":
        raise FlameFileError(f"{path}: {key} is of type {array.dtype}, numbers were expected")
    return array


def _points(
    path: Path, name: str, faces: np.ndarray, weights: np.ndarray, shapes: tuple[tuple[int, ...], ...], num_faces: int
) -> SurfacePoints:
    if faces.shape not in shapes or weights.shape != (*faces.shape, 3):
        wanted = " or ".join(map(str, shapes))
        raise FlameFileError(
            f"{path}: {name} has the shapes {faces.shape} and {weights.shape}, wanted {wanted} and 3 weights each"
        )
    if faces.dtype.kind == "f" or faces.min() < 0 or faces.max() >= num_faces:
        raise FlameFileError(f"{path}: {name} names triangle {faces.max()}, the head has {num_faces}; it is of another head")
    if not np.isfinite(weights).all() or np.abs(weights.sum(-1) - 1).max() > 1e-2:
        raise FlameFileError(f"{path}: the weights of {name} do not add up to 1")
    return SurfacePoints(torch.from_numpy(faces.astype(np.int64)), torch.from_numpy(weights.astype(np.float64)))
