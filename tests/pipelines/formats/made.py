"""Tracked clips of made-up people for the tests of formats: tables on disk, and a head with FLAME's joints and sizes."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from avatar_models.cameras import Camera, project
from avatar_models.heads.embedding import LandmarkEmbedding
from avatar_models.heads.interface import Head
from avatar_models.heads.procedural import procedural_head
from avatar_models.heads.skinning import Rig
from avatar_models.heads.storage import save_head
from avatar_models.people import camera_for, film, make_person, perform, viewmats
from pipelines import tables
from pipelines.formats.clip import Array, TrackedClip, surface
from pipelines.frames import StoredFrame, whole_frame, write_frames

SIDE, FRAMES = 96, 10
BAD = 3  # a frame that did not pass the gates


FLAME_NAMES = (*(f"expression_{i:02}" for i in range(100)), "eyelid_left", "eyelid_right")


def toy_flame() -> Head:
    """A head of FLAME's form: 300 and 100 coefficients, two eyelids, joints that identity and expression move."""
    random = np.random.default_rng(1)

    def made(*shape: int, size: float = 1e-3) -> Tensor:
        return torch.from_numpy(random.normal(0, size, shape))

    V = 30
    weights = made(V, 5, size=1.0).abs()
    weights[:, 0] = 0  # all of it is carried by the neck
    weights = weights / weights.sum(1, keepdim=True)
    rig = Rig(
        made(V, 3, size=0.06), made(300, V, 3), made(102, V, 3), procedural_head().rig.joints.double(), made(300, 5, 3),
        weights, made(102, 5, 3), made(36, V, 3),
    )  # fmt: skip
    faces = torch.arange(V).reshape(-1, 3)
    embedding = LandmarkEmbedding(
        torch.arange(478) % len(faces),
        torch.full((478, 3), 1 / 3),
        torch.ones(478),
        torch.zeros(478, 3),
        torch.zeros(5, 478, 3),
    )
    return Head("flame", rig, faces, FLAME_NAMES, False, embedding)


def crop_cameras(size: int = SIDE) -> tuple[Array, Array]:
    """K (N, 3, 3) of a crop that moves over the source, and viewmats (N, 4, 4)."""
    K, distance = camera_for(size)
    Ks = np.tile(K, (FRAMES, 1, 1))
    Ks[:, 0, 2] += np.linspace(-6, 9, FRAMES) * size / SIDE
    Ks[:, 1, 2] += np.linspace(5, -4, FRAMES) * size / SIDE
    return Ks, viewmats(perform(4, FRAMES, 8.0), distance)


def pictures(size: int = SIDE) -> list[StoredFrame]:
    """What the crops show; the matte is where the wall is not."""
    person, performance = make_person(4), perform(4, FRAMES, 8.0)
    Ks, views = crop_cameras(size)
    found = []
    for row in range(FRAMES):
        image = film(person, performance, row, size, views[row], Ks[row])
        matte = (np.abs(image.astype(int) - image[1, 1]).max(-1) > 24).astype(np.uint8) * 255
        found.append(whole_frame(image, matte))
    return found


def made_clip() -> TrackedClip:
    """The same person's clip, tracked without error with the procedural head."""
    performance, head = perform(4, FRAMES, 8.0), procedural_head()
    Ks, views = crop_cameras()
    return TrackedClip(
        "ann", "procedural", SIDE, SIDE, np.arange(FRAMES) * 2 + 5, np.arange(FRAMES) >= 8, Ks, views,
        performance.expression.astype(np.float64), np.zeros((FRAMES, 3)), performance.jaw.astype(np.float64),
        performance.eyes.astype(np.float64), make_person(4).identity.astype(np.float64),
        head.expression_names, head.identity_names,
    )  # fmt: skip


def detected() -> Array:
    """Where a detector without error sees the landmarks: (N, 478, 2) pixels of the crops."""
    clip, head = made_clip(), procedural_head()
    return seen(clip, np.stack([head.landmarks(torch.from_numpy(surface(head, clip, row))[None])[0] for row in range(FRAMES)]))


def flame_clip(identity: int = 300, expression: int = 102) -> TrackedClip:
    """A clip with FLAME's coefficients and a neck that turns, the rest as in :func:`made_clip`."""
    random = np.random.default_rng(2)
    names = (*FLAME_NAMES[: expression - 2], *FLAME_NAMES[-2:])
    codes = np.concatenate([random.normal(0, 1, (FRAMES, expression - 2)), random.uniform(0, 1, (FRAMES, 2))], 1)
    own = {
        "clip_id": "flo", "head": "flame", "expression": codes, "neck": random.normal(0, 0.2, (FRAMES, 3)),
        "identity": random.normal(0, 1, identity), "expression_names": names, "identity_names": (),
    }  # fmt: skip
    return TrackedClip(**{**made_clip().__dict__, **own})


def write_project(root: Path, corner: tuple[float, float] = (0.0, 0.0)) -> None:
    """data/ of a project with two segments: `ann`, of which one frame is not good, and `bob`, which did not pass.

    `corner` is where the crops lie in the source video.
    """
    clip, shots = made_clip(), pictures()
    times = [row / 8 for row in range(FRAMES)]
    columns = {
        "clip_id": ["ann"] * FRAMES, "frame": clip.frames.tolist(), "time": times,
        "image": [cv2.imencode(".png", shot.image[..., ::-1])[1].tobytes() for shot in shots],
        "matte": [cv2.imencode(".png", shot.matte)[1].tobytes() for shot in shots],
        "crop": [[*corner, 1.0]] * FRAMES, "picture": [[0.0, 0.0, SIDE, SIDE]] * FRAMES,
    }  # fmt: skip
    write_frames(root / "data/frames", [("ann", pa.table(columns, schema=tables.FRAMES))])
    tracks = {
        "clip_id": ["ann"] * FRAMES, "frame": clip.frames.tolist(), "time": times,
        "K": clip.K.reshape(FRAMES, 9).tolist(), "viewmat": clip.viewmat.reshape(FRAMES, 16).tolist(),
        **{name: getattr(clip, name).tolist() for name in ("neck", "jaw", "eyes", "expression")},
        **{name: [0.0] * FRAMES for name in ("reprojection", "jitter", "coverage")},
        "confidence": [0.9 if row != BAD else 0.3 for row in range(FRAMES)],
        "good": [row != BAD for row in range(FRAMES)], "head": ["procedural"] * FRAMES,
        "head_hash": ["0"] * FRAMES,
    }  # fmt: skip
    folder = root / "data/tracks"
    folder.mkdir(parents=True)
    save_head(folder / "head.npz", procedural_head())
    tables.write_table(pa.table(tracks, schema=tables.TRACKS), tables.TRACKS, folder / "tracks.parquet")
    points = np.concatenate([detected(), np.zeros((FRAMES, 478, 1))], 2).astype(np.float32)
    landmarks = {
        "clip_id": ["ann"] * FRAMES, "frame": clip.frames.tolist(), "points": points.reshape(FRAMES, -1).tolist(),
        "blendshapes": [None] * FRAMES, "confidence": [0.9] * FRAMES,
    }  # fmt: skip
    tables.write_table(pa.table(landmarks, schema=tables.LANDMARKS), tables.LANDMARKS, folder / "landmarks.parquet")
    person = {"subject_id": "ann", "clip_id": "ann", "head": "procedural", "head_hash": "0", "identity": clip.identity.tolist()}
    tables.write_table(pa.Table.from_pylist([person], tables.IDENTITIES), tables.IDENTITIES, folder / "identities.parquet")
    shared = {
        "camera_id": "cam0", "split": "train", "frame_start": 0, "frame_end": 30, "fps": 8.0, "num_frames": FRAMES,
        "num_good": FRAMES - 1, "reprojection": 0.0, "jitter": 0.0, "coverage": 1.0, "fingerprint": "0",
    }  # fmt: skip
    segments = [
        {"clip_id": "ann", "catalog_clip_id": "ann", "subject_id": "ann", "passed": True, "reason": "", **shared},
        {
            "clip_id": "bob",
            "catalog_clip_id": "bob",
            "subject_id": "bob",
            "passed": False,
            "reason": "jitter 0.4 > 0.2",
            **shared,
        },
    ]
    tables.write_table(pa.Table.from_pylist(segments, tables.SEGMENTS), tables.SEGMENTS, folder / "segments.parquet")


def cloud() -> NDArray[np.float64]:
    """Points (1, P, 3) about the head, metres."""
    return np.random.default_rng(0).uniform([-0.09, -0.12, -0.1], [0.09, 0.13, 0.08], (1, 60, 3))


def seen(clip: TrackedClip, points: NDArray[np.float64] | None = None) -> Array:
    """Where the clip's cameras see points (1 or N, P, 3): (N, P, 2) pixels."""
    places = torch.from_numpy(cloud() if points is None else points)
    camera = Camera(torch.from_numpy(clip.K), torch.from_numpy(clip.viewmat), clip.width, clip.height)
    return project(places, camera).numpy()
