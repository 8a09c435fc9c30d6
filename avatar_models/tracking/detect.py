"""Finding one face and its 478 landmarks, frame after frame, with MediaPipe.

The face is found first (short range, full range, then overlapping tiles for a small head in a large picture), and the
landmark model sees only a window around it, in source pixels. The window stands still until the face has moved in it,
because the landmark model follows the face in its window's own coordinates.

Coordinates are source pixels with centres at +0.5; boxes are (x0, y0, x1, y1).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import mediapipe as mp
import numpy as np
from numpy.typing import NDArray

from avatar_models.tracking.landmarker import FaceLandmarker, FaceMesh, LandmarkModel, quiet_native_log

NUM_LANDMARKS = 478
SEARCH_SCORE = 0.5
"""Least detector score with which a face is taken up."""
FOLLOW_SCORE = 0.3
"""Least detector score with which a face that is being followed counts as seen."""
WINDOW_OVER_FACE = 2.2
"""Side of the landmark model's window over the larger side of the face's box."""
RECENTRE = 0.12
"""The window is moved when the face's centre has left its middle by this share of the window's side."""
RESCALE = 1.3
"""The window is resized when the face has grown or shrunk by this factor."""
TILE_INTERVAL_S = 0.5
"""The search with tiles costs ten times the plain one: it runs this often while no face is found."""
MIN_FACE_PX = 12

Image = NDArray[np.uint8]
Box = NDArray[np.float64]  # (4,) x0 y0 x1 y1


@dataclass(frozen=True)
class Face:
    box: Box
    score: float


@dataclass(frozen=True)
class Observation:
    """One face in one frame."""

    points: NDArray[np.float32]  # (478, 3) source pixels; z in the same unit, relative to the head's centre
    confidence: float  # the face detector's score, 0 to 1
    blendshapes: NDArray[np.float32] | None = None  # (52,) in the order of blendshapes.NAMES, where the model gives them

    @property
    def box(self) -> Box:
        return landmark_box(self.points)


def landmark_box(points: NDArray[np.floating]) -> Box:
    """Bounding box (4,) of landmarks (478, 2 or 3)."""
    return np.concatenate([points[:, :2].min(0), points[:, :2].max(0)]).astype(np.float64)


def overlap(a: Box, b: Box) -> float:
    """Intersection over union of two boxes."""
    sides = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0.0, None)
    shared = float(sides.prod())
    union = float((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod()) - shared
    return shared / union if union > 0 else 0.0


class FaceFinder:
    """Faces in a picture or a part of it. Stateless from picture to picture."""

    def __init__(self) -> None:
        self._models = [
            mp.solutions.face_detection.FaceDetection(model_selection=kind, min_detection_confidence=FOLLOW_SCORE)
            for kind in (0, 1)  # short range: faces within 2 m; full range: within 5 m
        ]

    def near(self, picture: Image) -> list[Face]:
        """Faces (boxes in the picture's pixels) that fill a good part of the picture: the fast detector only."""
        return self._detect(0, picture)

    def all(self, picture: Image) -> list[Face]:
        """Faces of both detectors, best first, doubles removed."""
        found = self._detect(0, picture) + self._detect(1, picture)
        return _without_doubles(found)

    def in_tiles(self, picture: Image) -> list[Face]:
        """Small faces: both detectors on overlapping squares of a half and a quarter of the larger side."""
        height, width = picture.shape[:2]
        found = []
        for parts in (2, 4):
            side = max(height, width) // parts
            for y in _tile_starts(height, side):
                for x in _tile_starts(width, side):
                    tile = np.ascontiguousarray(picture[y : y + side, x : x + side])
                    found += [Face(face.box + (x, y, x, y), face.score) for face in self.all(tile)]
            strong = [face for face in found if face.score >= SEARCH_SCORE]
            if strong:
                return _without_doubles(strong)
        return []

    def close(self) -> None:
        for model in self._models:
            model.close()

    def _detect(self, kind: int, picture: Image) -> list[Face]:
        height, width = picture.shape[:2]
        faces = []
        for found in self._models[kind].process(picture).detections or []:
            box = found.location_data.relative_bounding_box
            corners = np.array([box.xmin, box.ymin, box.xmin + box.width, box.ymin + box.height])
            corners *= (width, height, width, height)
            if (corners[2:] - corners[:2]).min() >= MIN_FACE_PX:
                faces.append(Face(corners, float(found.score[0])))
        return faces


def _tile_starts(length: int, side: int) -> list[int]:
    """Starts of tiles that overlap by half and cover a length; one tile where it is no longer than the side."""
    if length <= side:
        return [0]
    count = int(np.ceil((length - side) / (side / 2))) + 1
    return [round(start) for start in np.linspace(0, length - side, count)]


def _without_doubles(faces: list[Face]) -> list[Face]:
    kept: list[Face] = []
    for face in sorted(faces, key=lambda face: -face.score):
        if all(overlap(face.box, other.box) < 0.3 for other in kept):
            kept.append(face)
    return kept


class FaceTracker:
    """Follows one face through the frames of one clip.

    The largest face is taken up; while it is lost for less than `max_gap_s`, only a face near its last place is
    accepted, so that it is not exchanged for another person. Make a new tracker for each clip: the models carry state
    from frame to frame (a new one costs 0.1 s). With the bytes of a FaceLandmarker `task` the landmarks are that model's.
    `small_faces`: whether tiles are searched too where no face is found, which takes ten times as long.
    """

    def __init__(
        self,
        max_gap_s: float,
        region: tuple[float, float, float, float] | None = None,
        task: bytes | None = None,
        small_faces: bool = True,
    ) -> None:
        self.max_gap_s = max_gap_s
        self.small_faces = small_faces
        self._task = task
        self.region = region  # x0 y0 x1 y1: faces are searched inside it only
        with quiet_native_log():
            self._finder = FaceFinder()
            warm_up = np.zeros((64, 64, 3), np.uint8)
            self._finder.all(warm_up)
        self._model: LandmarkModel | None = None
        self._window: tuple[int, int, int] | None = None  # x0, y0, side
        self._last: Box | None = None
        self._last_time = -np.inf
        self._tiles_due = -np.inf

    def restart(self) -> None:
        """Forgets the face: after a cut the largest face is taken up anew."""
        self._window = None
        self._last = None
        self._last_time = self._tiles_due = -np.inf

    def observe(self, picture: Image, time: float) -> Observation | None:
        """The followed face in this frame (H, W, 3), or None. Times in seconds, rising."""
        seen = self._follow(picture) if self._window else None
        if seen is None:
            self._window = None
            face = self._search(picture, time)
            if face is None:
                return None
            self._look_at(face.box)
            self._renew_model()
            seen = self._follow(picture)
            if seen is None:
                self._window = None
                return None
        self._last, self._last_time = seen.box, time
        return seen

    def close(self) -> None:
        self._finder.close()
        if self._model is not None:
            self._model.close()

    def _follow(self, picture: Image) -> Observation | None:
        seen = self._measure(picture)
        if seen is not None and self._drifted(seen.box):
            self._look_at(seen.box)
            # Twice: the landmark model first looks where the face was in the old window.
            self._measure(picture)
            seen = self._measure(picture)
        return seen

    def _measure(self, picture: Image) -> Observation | None:
        assert self._window is not None and self._model is not None
        x0, y0, side = self._window
        window = padded_square(picture, x0, y0, side)
        marks = self._model.look(window)
        if marks is None:
            return None
        points = marks.points * np.float32(side)
        box = landmark_box(points)
        if (box[2:] - box[:2]).min() < MIN_FACE_PX:
            return None
        scores = [face.score for face in self._finder.near(window) if overlap(face.box, box) > 0.25]
        points[:, :2] += (x0, y0)
        if self._last is not None and overlap(landmark_box(points), self._last) == 0.0:
            return None
        if not scores or not _inside(points, picture):
            return None
        return Observation(points, max(scores), marks.blendshapes)

    def _drifted(self, box: Box) -> bool:
        assert self._window is not None
        x0, y0, side = self._window
        away = np.abs((box[:2] + box[2:]) / 2 - (x0 + side / 2, y0 + side / 2)).max()
        ratio = float((box[2:] - box[:2]).max()) * WINDOW_OVER_FACE / side
        return bool(away > RECENTRE * side) or not 1 / RESCALE < ratio < RESCALE

    def _look_at(self, box: Box) -> None:
        side = int(np.ceil((box[2:] - box[:2]).max() * WINDOW_OVER_FACE))
        x0, y0 = np.floor((box[:2] + box[2:]) / 2 - side / 2).astype(int)
        self._window = (int(x0), int(y0), side)

    def _renew_model(self) -> None:
        """FaceMesh remembers the face that was lost; the task remembers nothing."""
        if self._task is not None:
            self._model = self._model or FaceLandmarker(self._task)
            return
        if self._model is not None:
            self._model.close()
        self._model = FaceMesh()

    def _search(self, picture: Image, time: float) -> Face | None:
        part, left, top = self._searched_part(picture)
        faces = [face for face in self._finder.all(part) if face.score >= SEARCH_SCORE]
        if not faces and self.small_faces and time >= self._tiles_due:
            self._tiles_due = time + TILE_INTERVAL_S
            faces = self._finder.in_tiles(part)
        faces = [Face(face.box + (left, top, left, top), face.score) for face in faces]
        if self._last is not None and time - self._last_time <= self.max_gap_s:
            near = _grown(self._last, 2.0)
            faces = [face for face in faces if overlap(face.box, near) > 0.05]
        return max(faces, key=lambda face: float((face.box[2:] - face.box[:2]).prod()), default=None)

    def _searched_part(self, picture: Image) -> tuple[Image, int, int]:
        if self.region is None:
            return picture, 0, 0
        height, width = picture.shape[:2]
        x0, y0 = max(0, int(self.region[0])), max(0, int(self.region[1]))
        x1, y1 = min(width, int(np.ceil(self.region[2]))), min(height, int(np.ceil(self.region[3])))
        return np.ascontiguousarray(picture[y0:y1, x0:x1]), x0, y0


def _grown(box: Box, factor: float) -> Box:
    centre, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2 * factor
    return np.concatenate([centre - half, centre + half])


def _inside(points: NDArray[np.float32], picture: Image) -> bool:
    """Whether at least half of the landmarks lie in the picture."""
    height, width = picture.shape[:2]
    inside = (points[:, :2] >= 0).all(1) & (points[:, 0] <= width) & (points[:, 1] <= height)
    return bool(inside.mean() >= 0.5)


def padded_square(picture: Image, x0: int, y0: int, side: int) -> Image:
    """The square (side, side, 3) at (x0, y0), its parts outside the picture filled with the nearest border pixel.

    C-contiguous: MediaPipe finds nothing, and says nothing, in an array that is not.
    """
    height, width = picture.shape[:2]
    left, top = max(0, -x0), max(0, -y0)
    right, bottom = max(0, x0 + side - width), max(0, y0 + side - height)
    if not (left or top or right or bottom):
        return np.ascontiguousarray(picture[y0 : y0 + side, x0 : x0 + side])
    # Clipped so that a square wholly outside still takes one row or column of the border.
    xa, xb = min(max(x0, 0), width - 1), max(min(x0 + side, width), 1)
    ya, yb = min(max(y0, 0), height - 1), max(min(y0 + side, height), 1)
    inner = picture[ya:yb, xa:xb]
    left, top = min(left, side - inner.shape[1]), min(top, side - inner.shape[0])
    right, bottom = side - inner.shape[1] - left, side - inner.shape[0] - top
    return cv2.copyMakeBorder(inner, top, bottom, left, right, cv2.BORDER_REPLICATE)
