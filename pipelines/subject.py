"""One subject's frames and tracks in memory, as training and evaluation read them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from avatar_models.avatar import track_condition
from avatar_models.cameras import Camera, resized
from pipelines import tables
from pipelines.frames import FrameReader, shrunk
from pipelines.splits import ClipSplit, subject_splits

FRAMES_FOLDER, TRACKS_FOLDER = Path("data/frames"), Path("data/tracks")
BACKGROUNDS = {"white": 1.0, "black": 0.0}


@dataclass(frozen=True)
class Tables:
    """The tables that preprocess wrote, read once."""

    segments: pa.Table
    tracks: pa.Table
    identities: pa.Table
    frames: FrameReader


def read_tables(root: Path = Path()) -> Tables:
    """Reads data/ of a project folder. Raises SchemaError where a table is missing or of another version."""
    folder = root / TRACKS_FOLDER
    return Tables(
        tables.read_table(folder / "segments.parquet", tables.SEGMENTS),
        tables.read_table(folder / "tracks.parquet", tables.TRACKS),
        tables.read_table(folder / "identities.parquet", tables.IDENTITIES),
        FrameReader(root / FRAMES_FOLDER),
    )


@dataclass(frozen=True)
class Shots:
    """Frames of a subject with their cameras and conditions. T frames of S x S pixels."""

    images: NDArray[np.uint8]  # (T, S, S, 3) RGB
    mattes: NDArray[np.uint8]  # (T, S, S)
    camera: Camera  # T cameras
    conditions: torch.Tensor  # (T, E)
    clip_ids: list[str]
    frames: NDArray[np.int64]  # (T,) index in the source video

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class ClipTracks:
    """A segment's tracks as arrays. N frames."""

    K: NDArray[np.float32]  # (N, 3, 3) pixels of the stored crop
    viewmat: NDArray[np.float32]  # (N, 4, 4)
    conditions: NDArray[np.float32]  # (N, E)
    frames: NDArray[np.int64]
    head: str


def clip_tracks(all_tracks: pa.Table, clip_id: str) -> ClipTracks:
    """The tracks of one segment, in frame order."""
    rows = all_tracks.filter(pc.equal(all_tracks["clip_id"], clip_id)).sort_by("frame")

    def array(name: str) -> NDArray[np.float32]:
        return np.array(rows[name].to_pylist(), np.float32)

    return ClipTracks(
        array("K").reshape(-1, 3, 3),
        array("viewmat").reshape(-1, 4, 4),
        track_condition(array("expression"), array("jaw"), array("eyes")),
        rows["frame"].to_numpy(),
        rows["head"][0].as_py(),
    )


def subject_clips(data: Tables, subject_id: str, test_fraction: float) -> list[ClipSplit]:
    """The subject's segments that passed, each with its training and held-out rows."""
    return subject_splits(data.segments, data.tracks, subject_id, test_fraction)


def load_shots(data: Tables, clips: list[tuple[str, NDArray[np.int64]]], size: int) -> Shots:
    """Decodes rows of segments [(clip_id, rows)] at size x size, with cameras for that size."""
    images, mattes, Ks, viewmats, conditions, names, frames = [], [], [], [], [], [], []
    stored = size
    for clip_id, rows in clips:
        tracks = clip_tracks(data.tracks, clip_id)
        for row in rows.tolist():
            frame = data.frames.decode(clip_id, row)
            stored = len(frame.image)
            frame = shrunk(frame, size)
            images.append(frame.image)
            mattes.append(frame.matte)
            names.append(clip_id)
        Ks.append(tracks.K[rows])
        viewmats.append(tracks.viewmat[rows])
        conditions.append(tracks.conditions[rows])
        frames.append(tracks.frames[rows])
    camera = Camera(torch.from_numpy(np.concatenate(Ks)), torch.from_numpy(np.concatenate(viewmats)), stored, stored)
    return Shots(
        np.stack(images), np.stack(mattes), resized(camera, size, size), torch.from_numpy(np.concatenate(conditions)),
        names, np.concatenate(frames),
    )  # fmt: skip


def subject_identity(data: Tables, clip_id: str) -> dict[str, Any]:
    """The identities row of a segment."""
    rows = data.identities.filter(pc.equal(data.identities["clip_id"], clip_id)).to_pylist()
    if not rows:
        raise KeyError(f"{clip_id}: no identity in {TRACKS_FOLDER / 'identities.parquet'}; run `dvc repro preprocess`")
    return dict(rows[0])
