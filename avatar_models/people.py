"""Made-up people: how one looks, how one moves and talks, and pictures of it. All of it follows from a seed.

They stand in for real videos in the demo and are the ground truth of tests: camera, pose, expression and mesh are known.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from avatar_models.colors import HAIRS, IRISES, SKINS
from avatar_models.heads.procedural import procedural_head, procedural_rig
from avatar_models.heads.procedural_mesh import EYE_LEFT, EYE_RIGHT, head_mesh
from avatar_models.heads.procedural_paint import head_texture
from avatar_models.heads.procedural_skin import Palette
from avatar_models.mesh_render import rasterise
from avatar_models.shading import light, light_up

Array = NDArray[np.float64]
SUPERSAMPLING = 2
IDENTITY_SIGMA = 0.8
AROUND, ABOVE = np.radians(50), np.radians(12)
NECK_BASE = np.array([0.0, -0.15, -0.05])  # metres, in the head's frame
SHIRTS = ((0.18, 0.30, 0.46), (0.46, 0.20, 0.22), (0.22, 0.36, 0.28), (0.30, 0.28, 0.34), (0.55, 0.50, 0.42))
WALLS = ((0.74, 0.78, 0.80), (0.80, 0.76, 0.70), (0.70, 0.75, 0.71), (0.77, 0.73, 0.79))


@dataclass(frozen=True)
class Person:
    """How a made-up person looks."""

    identity: NDArray[np.float32]  # (I,)
    palette: Palette
    shirt: tuple[float, float, float]
    wall: tuple[float, float, float]


@dataclass(frozen=True)
class Performance:
    """What a person does: T frames at `fps`. Rotations as axis-angle in radians."""

    fps: float
    expression: NDArray[np.float32]  # (T, E)
    jaw: NDArray[np.float32]  # (T, 3)
    eyes: NDArray[np.float32]  # (T, 6)
    rotation: Array  # (T, 3) of the head against the torso: pitch, yaw, roll
    translation: Array  # (T, 3) metres

    def __len__(self) -> int:
        return len(self.expression)


def make_person(seed: int) -> Person:
    """A person drawn from a seed."""
    rng = np.random.default_rng((seed, 1))
    palette = palette_of(rng)
    shirt, wall = (table[rng.integers(len(table))] for table in (SHIRTS, WALLS))
    identity = rng.normal(0.0, IDENTITY_SIGMA, len(procedural_rig()[1])).clip(-1.6, 1.6)
    return Person(identity.astype(np.float32), palette, shirt, wall)


def palette_of(rng: np.random.Generator) -> Palette:
    """Colours of one person's skin, lips, hair and eyes."""
    skin = np.asarray(SKINS[rng.integers(len(SKINS))]) * rng.uniform(0.94, 1.04, 3)
    lips = skin * [0.90, 0.58, 0.58]
    hair, iris = HAIRS[rng.integers(len(HAIRS))], IRISES[rng.integers(len(IRISES))]
    return Palette(tuple(skin), tuple(lips), hair, iris, int(rng.integers(1 << 30)))


def perform(seed: int, frames: int, fps: float) -> Performance:
    """Talking, blinking, brows and smiles, and a head that turns: smooth, and of one kind from start to end."""
    rng = np.random.default_rng((seed, 2))
    names = procedural_head().expression_names
    time = np.arange(frames) / fps
    expression = np.zeros((frames, len(names)))

    def add(name: str, values: Array) -> None:
        expression[:, names.index(name)] += values

    def wave(period: float) -> Array:
        """Smooth noise in about [-1, 1] that changes over `period` seconds."""
        total = sum(
            np.sin(2 * np.pi * (time / (period * stretch) + rng.uniform())) / weight
            for stretch, weight in ((1.0, 1.0), (0.61, 1.6), (1.73, 1.4))
        )
        return np.asarray(total) / 1.9

    talking = np.clip(wave(2.6) * 1.5 + 0.6, 0.0, 1.0)
    syllable = np.clip(wave(0.42) * 0.7 + 0.35, 0.0, 1.0)
    jaw = 0.26 * talking * syllable
    for name, period, size in (("mouthFunnel", 0.7, 0.6), ("mouthPucker", 0.9, 0.6), ("mouthShrug", 1.1, 0.4)):
        add(name, size * talking * np.clip(wave(period), 0, 1))
    smile = np.clip(wave(2.9) * 1.3 - 0.1, 0, 1)
    frown = np.clip(-wave(3.1) - 0.3, 0, 1) * (1 - smile)
    for side in ("Left", "Right"):
        add(f"mouthSmile{side}", smile * rng.uniform(0.75, 1.0))
        add(f"mouthFrown{side}", frown)
        add(f"mouthUpperUp{side}", 0.5 * talking * np.clip(wave(0.6), 0, 1))
        add(f"mouthLowerDown{side}", 0.6 * talking * np.clip(wave(0.55), 0, 1))
        add(f"eyeSquint{side}", 0.7 * smile)
    brows = wave(2.3)
    for side in ("Left", "Right"):
        add(f"browOuterUp{side}", np.clip(brows * rng.uniform(0.8, 1.1), 0, 1))
        add(f"browDown{side}", np.clip(-brows, 0, 1))
        add(f"eyeWide{side}", 0.6 * np.clip(brows, 0, 1))
    add("browInnerUp", np.clip(brows, 0, 1))
    blink = np.zeros(frames)
    moment = rng.uniform(0.3, 1.2)
    while moment < time[-1]:
        blink = np.maximum(blink, np.exp(-(((time - moment) / 0.075) ** 2)))
        moment += rng.uniform(1.1, 2.6)
    for side in ("Left", "Right"):
        add(f"eyeBlink{side}", blink)

    gaze = np.stack([0.10 * wave(1.7), 0.25 * wave(1.5), np.zeros(frames)], 1)
    turn = np.stack([0.13 * wave(2.4), 0.38 * wave(3.3), 0.09 * wave(2.9)], 1)
    shift = np.stack([0.012 * wave(3.1), 0.006 * wave(2.2), 0.015 * wave(3.7)], 1)
    return Performance(
        fps, expression.clip(0, 1).astype(np.float32), np.stack([jaw, 0 * jaw, 0 * jaw], 1).astype(np.float32),
        np.concatenate([gaze, gaze], 1).astype(np.float32), turn, shift,
    )  # fmt: skip


def camera_for(size: int) -> tuple[Array, float]:
    """(K (3, 3), distance in metres) of the camera that films the made-up people in a square picture."""
    focal = 2.4 * size
    return np.array([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1.0]]), 0.92


def viewmats(performance: Performance, distance: float) -> Array:
    """Head's frame to camera, (T, 4, 4): the camera stands still, the head turns before it."""
    found = np.tile(np.eye(4), (len(performance), 1, 1))
    facing = np.diag([1.0, -1.0, -1.0])
    for frame, (pitch, yaw, roll) in enumerate(performance.rotation):
        turn = (
            cv2.Rodrigues(np.array([0, yaw, 0.0]))[0]
            @ cv2.Rodrigues(np.array([pitch, 0, 0.0]))[0]
            @ cv2.Rodrigues(np.array([0, 0, roll]))[0]
        )
        found[frame, :3, :3] = facing @ turn
        found[frame, :3, 3] = facing @ performance.translation[frame] + [0, 0.015, distance]
    return found


def cameras_around(count: int, distance: float) -> Array:
    """The front camera's frame to those of cameras around the head, from the subject's right to its left: (count, 4, 4).

    They stand on an arc of AROUND to both sides, by turns a little above and below; one alone is the front camera.
    """
    found = np.tile(np.eye(4), (count, 1, 1))
    middle = np.array([0.0, 0.0, distance])
    for number in range(count if count > 1 else 0):
        aside = AROUND * (2 * number / (count - 1) - 1)
        above = ABOVE * (1 - 2 * (number % 2))
        turn = cv2.Rodrigues(np.array([above, 0.0, 0.0]))[0] @ cv2.Rodrigues(np.array([0.0, aside, 0.0]))[0]
        found[number, :3, :3], found[number, :3, 3] = turn, middle - turn @ middle
    return found


def posed_vertices(person: Person, performance: Performance, frame: int) -> NDArray[np.float32]:
    """The head's surface (V, 3) in its own frame, metres."""
    head = procedural_head()
    arguments = (
        person.identity,
        performance.expression[frame],
        np.zeros(3),
        performance.jaw[frame],
        performance.eyes[frame],
    )
    return head.vertices(*(torch.tensor(np.asarray(a, np.float32))[None] for a in arguments))[0].numpy()


def film(
    person: Person, performance: Performance, frame: int, size: int, view: Array, K: Array, front: Array | None = None
) -> NDArray[np.uint8]:
    """One picture (size, size, 3) of the person, with torso and wall.

    The front camera (4, 4), this one where it is not given, has the light with it, and the torso faces it.
    """
    front = view if front is None else front
    big = size * SUPERSAMPLING
    K_big = K * [[SUPERSAMPLING], [SUPERSAMPLING], [1.0]]
    head, faces = posed_vertices(person, performance, frame), procedural_head().faces.numpy()
    torso, torso_faces = _torso()
    # The torso stands still while the head turns: it is placed in the front camera's frame, under the neck.
    collar = front[:3, :3] @ NECK_BASE + front[:3, 3]
    in_camera = (torso - NECK_BASE) * [1.0, -1.0, -1.0] + collar
    placed = (in_camera - front[:3, 3]) @ front[:3, :3]

    vertices = np.concatenate([head, placed.astype(np.float32)])
    all_faces = np.concatenate([faces, torso_faces + len(head)])
    surface = rasterise(vertices, all_faces, K_big, view, big, big)
    picture = surface.sample(head_texture(person.palette))
    picture[surface.triangle >= len(faces)] = person.shirt
    wet = np.isin(head_mesh().part, (EYE_LEFT, EYE_RIGHT))
    lights = np.concatenate([light(head, faces, front, wet), light(placed, torso_faces, front)])
    shade = surface.interpolate(all_faces, lights)
    light_up(picture, surface.triangle, shade, _wall(big, person.wall))
    small = cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA)
    return (np.clip(small, 0, 1) * 255).round().astype(np.uint8)


@lru_cache(maxsize=4)
def _wall(size: int, color: tuple[float, float, float]) -> NDArray[np.float32]:
    """The plain background (size, size, 3), lighter in its upper left; read-only."""
    down, across = np.ogrid[0:size, 0:size]
    vignette = 1.04 - 0.22 * ((across / size - 0.42) ** 2 + (down / size - 0.35) ** 2)
    wall = (vignette[..., None] * np.asarray(color)).astype(np.float32)
    wall.flags.writeable = False
    return wall


def _torso() -> tuple[Array, NDArray[np.int64]]:
    """Shoulders in a shirt: rings from the neck's base outwards and down, metres, in the head's frame at rest."""
    rings = (
        (0.062, 0.066, -0.140),
        (0.075, 0.08, -0.150),
        (0.12, 0.092, -0.168),
        (0.19, 0.105, -0.20),
        (0.22, 0.115, -0.26),
        (0.23, 0.12, -0.5),
    )
    angle = np.arange(48) * 2 * np.pi / 48
    points = np.concatenate(
        [
            np.stack([a * np.cos(angle), y + 0.012 * (np.cos(angle) ** 2 - 1) * (a < 0.2), -0.05 + b * np.sin(angle)], 1)
            for a, b, y in rings
        ]
    )
    first = np.arange(48)
    faces = []
    for r in range(len(rings) - 1):
        a, b = first + 48 * r, first + 48 * (r + 1)
        faces += [np.stack([a, np.roll(b, -1), b], 1), np.stack([a, np.roll(a, -1), np.roll(b, -1)], 1)]
    return points, np.concatenate(faces)
