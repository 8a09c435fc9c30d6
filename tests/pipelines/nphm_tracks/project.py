"""A project folder of a made-up person whom three calibrated cameras film, as preprocess would leave it without any error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import torch

from avatar_models.cameras import Camera, project
from avatar_models.heads.procedural import procedural_head
from avatar_models.mesh_render import rasterise
from avatar_models.people import camera_for, cameras_around, film, make_person, perform, posed_vertices, viewmats
from pipelines import tables
from pipelines.frames import write_frames
from pipelines.png import png_bytes
from pipelines.preprocess.assemble import write_head
from pipelines.subject import FRAMES_FOLDER, TRACKS_FOLDER

SUBJECT, SEQUENCE, SEED, SIDE, STEPS, RATE = "mia", "s0", 4, 192, 3, 25.0
CLIPS = ("mia-s0-cam0", "mia-s0-cam1", "mia-s0-cam2")
FIRST = {CLIPS[2]: 1}  # frames that a camera was late
PERSON, PERFORMANCE = make_person(SEED), perform(SEED, STEPS, RATE)
K, DISTANCE = camera_for(SIDE)
IN_WORLD = viewmats(PERFORMANCE, DISTANCE)  # (STEPS, 4, 4) the head's frame to the front camera's, which is the world
CAMERAS = cameras_around(9, DISTANCE)[[3, 4, 5]]  # (3, 4, 4) the world to each camera


def make_project(root: Path) -> Path:
    """Writes data/ of a project."""
    head = procedural_head()
    rows: dict[str, list[dict[str, Any]]] = {"tracks": [], "landmarks": [], "identities": [], "segments": [], "catalog": []}
    frames = []
    for clip, from_world in zip(CLIPS, CAMERAS, strict=True):
        steps = range(FIRST.get(clip, 0), STEPS)
        views = from_world @ IN_WORLD
        seen = [frame_row(clip, step, views[step]) for step in steps]
        frames.append((clip, pa.Table.from_pylist(seen, schema=tables.FRAMES)))
        rows["tracks"] += [track_row(clip, step, views[step], head.hash()) for step in steps]
        for step in steps:
            vertices = torch.from_numpy(posed_vertices(PERSON, PERFORMANCE, step))[None]
            camera = Camera(torch.from_numpy(K).float()[None], torch.from_numpy(views[step]).float()[None], SIDE, SIDE)
            points = torch.nn.functional.pad(project(head.landmarks(vertices), camera), (0, 1))
            rows["landmarks"].append(
                {"clip_id": clip, "frame": step, "points": points.flatten().tolist(), "blendshapes": None, "confidence": 1.0}
            )
        facts = {"head": head.name, "head_hash": head.hash(), "identity": PERSON.identity.tolist()}
        rows["identities"].append({"subject_id": SUBJECT, "clip_id": clip, **facts})
        rows["segments"].append(segment_row(clip, len(steps)))
        rows["catalog"].append(catalog_row(clip, from_world))
    for name, schema, folder in (
        ("tracks", tables.TRACKS, TRACKS_FOLDER), ("landmarks", tables.LANDMARKS, TRACKS_FOLDER),
        ("identities", tables.IDENTITIES, TRACKS_FOLDER), ("segments", tables.SEGMENTS, TRACKS_FOLDER),
        ("catalog", tables.CATALOG, Path("data/catalog")),
    ):  # fmt: skip
        tables.write_table(pa.Table.from_pylist(rows[name], schema=schema), schema, root / folder / f"{name}.parquet")
    write_frames(root / FRAMES_FOLDER, frames)
    write_head(head, root)
    return root


def frame_row(clip: str, step: int, view: np.ndarray) -> dict[str, Any]:
    picture = film(PERSON, PERFORMANCE, step, SIDE, view, K, IN_WORLD[step])
    vertices, faces = posed_vertices(PERSON, PERFORMANCE, step), procedural_head().faces.numpy()
    matte = np.where(rasterise(vertices, faces, K, view, SIDE, SIDE).triangle >= 0, 255, 0).astype(np.uint8)
    jpeg = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 97])[1].tobytes()
    whole = [0.0, 0.0, float(SIDE), float(SIDE)]
    return {
        "clip_id": clip, "frame": step, "time": step / RATE, "image": jpeg, "matte": png_bytes(matte),
        "crop": [0.0, 0.0, 1.0], "picture": whole,
    }  # fmt: skip


def track_row(clip: str, step: int, view: np.ndarray, head_hash: str) -> dict[str, Any]:
    return {
        "clip_id": clip, "frame": step, "time": step / RATE, "K": K.ravel().tolist(), "viewmat": view.ravel().tolist(),
        "neck": [0.0] * 3, "jaw": PERFORMANCE.jaw[step].tolist(), "eyes": PERFORMANCE.eyes[step].tolist(),
        "expression": PERFORMANCE.expression[step].tolist(), "reprojection": 0.01, "jitter": 0.0, "coverage": 1.0,
        "confidence": 1.0, "good": True, "head": "procedural", "head_hash": head_hash,
    }  # fmt: skip


def segment_row(clip: str, count: int) -> dict[str, Any]:
    return {
        "clip_id": clip, "catalog_clip_id": clip, "subject_id": SUBJECT, "camera_id": clip[-4:], "split": "train",
        "frame_start": 0, "frame_end": STEPS, "fps": RATE, "num_frames": count, "num_good": count, "reprojection": 0.01,
        "jitter": 0.0, "coverage": 1.0, "passed": True, "reason": "", "fingerprint": clip,
    }  # fmt: skip


def catalog_row(clip: str, from_world: np.ndarray) -> dict[str, Any]:
    return {
        "clip_id": clip, "subject_id": SUBJECT, "camera_id": clip[-4:], "source": f"{clip}.mp4", "frame_start": 0,
        "frame_end": STEPS, "fps": RATE, "fps_header": RATE, "frames_header": STEPS, "frames_found": STEPS,
        "variable_rate": False, "width": SIDE, "height": SIDE, "rotation": 0, "crop": None, "split": "train",
        "sequence": SEQUENCE, "K": K.ravel().tolist(), "viewmat": from_world.ravel().tolist(), "fingerprint": clip,
    }  # fmt: skip
