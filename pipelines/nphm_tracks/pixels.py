"""What a clip's pictures say to the tracking of its neural head: some pixels of the face's skin, and some that show nobody.

F frames, R and O rays. Pixels of pictures that are shrunk to SIDE, centres at +0.5.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avatar_models.cameras import Camera, resized
from avatar_models.heads.nphm.pictures import Pixels
from avatar_models.tracking.quality import FACE_OVAL, LEFT_EYE, LIPS, RIGHT_EYE
from pipelines.frames import FrameReader, StoredFrame, shrunk
from pipelines.subject import ClipTracks

SIDE = 64
INSIDE, OUTSIDE = 500, 60
"""Rays of each frame: most of the face's pixels, so that chance draws little of what differs from frame to frame."""
MOVING = (RIGHT_EYE, LEFT_EYE, LIPS[:20])
"""Contours in which other things than skin are seen: eyes, and what is between the lips."""
NOBODY = 25
"""Most of a matte, 0 to 255, of a pixel that shows nobody."""
NEAR = 0.8
"""So far from the face, over its height, pixels that show nobody are looked at."""


@dataclass(frozen=True)
class Chosen:
    """Pixels (R, 2) x, y of skin with their colours (R, 3), and (O, 2) of nobody."""

    inside: NDArray[np.float32]
    color: NDArray[np.float32]
    outside: NDArray[np.float32]


def pixels_of(frames: FrameReader, clip: str, tracks: ClipTracks, landmarks: NDArray[np.floating], seed: int) -> Pixels | None:
    """Of all frames of a clip, with the detector's landmarks (F, 478, 2) in pixels of the stored pictures.

    In the frame that the tracks' cameras are of. None where a frame shows no skin.
    """
    stored = len(frames.decode(clip, 0).image)
    camera = Camera(torch.from_numpy(tracks.K), torch.from_numpy(tracks.viewmat), stored, stored)
    camera = resized(camera, SIDE, SIDE)
    chosen = []
    for row, points in enumerate(landmarks * (SIDE / stored)):
        own = choose(shrunk(frames.decode(clip, row), SIDE), points, np.random.default_rng((seed, row)))
        if own is None:
            return None
        chosen.append(own)
    inside, color, outside = (
        torch.from_numpy(np.stack([getattr(own, name) for own in chosen])) for name in ("inside", "color", "outside")
    )
    rotation, translation = camera.viewmat[:, :3, :3], camera.viewmat[:, :3, 3]
    origin = -(rotation.mT @ translation[..., None])[..., 0]
    return Pixels(origin, directions(inside, camera), color, directions(outside, camera), rotation)


def directions(pixels: Tensor, camera: Camera) -> Tensor:
    """Unit directions (F, R, 3) in the world of what pixels (F, R, 2) see."""
    rays = torch.nn.functional.pad(pixels, (0, 1), value=1.0) @ torch.linalg.inv(camera.K).mT
    return torch.nn.functional.normalize(rays @ camera.viewmat[:, :3, :3], dim=2)


def choose(frame: StoredFrame, points: NDArray[np.floating], random: np.random.Generator) -> Chosen | None:
    """Some pixels of a frame with landmarks (478, 2); None where it has no skin.

    Where nobody's pixels are not to be had near the face, the upper corners stand for them: the head is in the middle.
    """
    hull = cv2.convexHull(points[FACE_OVAL].astype(np.int32))
    face = filled(frame.matte.shape, [hull])
    moving = filled(frame.matte.shape, [points[contour].astype(np.int32) for contour in MOVING])
    skin = (face > 0) & (cv2.dilate(moving, np.ones((3, 3), np.uint8)) == 0) & frame.known
    away = cv2.distanceTransform(1 - face, cv2.DIST_L2, 3)
    nobody = (frame.matte < NOBODY) & frame.known & (away > 0) & (away < NEAR * np.ptp(hull[:, 0, 1]))
    if not skin.any():
        return None
    if not nobody.any():
        nobody[0, [0, -1]] = True
    inside, outside = drawn(skin, INSIDE, random), drawn(nobody, OUTSIDE, random)
    color = frame.image[inside[:, 1], inside[:, 0]].astype(np.float32) / 255
    return Chosen(inside.astype(np.float32) + 0.5, color, outside.astype(np.float32) + 0.5)


def filled(shape: tuple[int, ...], contours: list[NDArray[np.int32]]) -> NDArray[np.uint8]:
    """Ones inside of contours."""
    mask = np.zeros(shape, np.uint8)
    for contour in contours:
        cv2.fillPoly(mask, [contour], 1)
    return mask


def drawn(mask: NDArray[np.bool_], count: int, random: np.random.Generator) -> NDArray[np.int64]:
    """So many of a mask's pixels (count, 2) x, y; more than once where there are fewer."""
    y, x = np.nonzero(mask)
    chosen = random.choice(len(x), count, replace=len(x) < count)
    return np.stack([x[chosen], y[chosen]], 1)
