"""One subject's frames and tracks in memory, as training and evaluation read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from avatar_models.avatar import track_condition
from avatar_models.cameras import Camera, project, resized
from avatar_models.heads.interface import Head
from avatar_models.heads.storage import read_head
from pipelines import tables
from pipelines.frames import FrameReader, shrunk
from pipelines.nearest import did_you_mean
from pipelines.splits import ClipSplit, subject_splits

FRAMES_FOLDER, TRACKS_FOLDER = Path("data/frames"), Path("data/tracks")
NPHM_PRIOR, NPHM_TRACKS_FOLDER = Path("models/nphm"), Path("data/tracks_nphm")
NPHM = "nphm"
"""The name of the neural head in tables and avatars."""
CATALOG_FILE = Path("data/catalog/catalog.parquet")
HEAD_FILE = TRACKS_FOLDER / "head.npz"
NECK_LEFT, NECK_RIGHT, BELOW_NECK = (0.06, -0.128, -0.03), (-0.06, -0.128, -0.03), (0.0, -0.19, -0.03)
"""A line across the middle of the neck and a place below it, in the head's frame, metres."""
NECK_SOFTNESS = 0.04  # of the picture's height


@dataclass(frozen=True)
class Tables:
    """The tables that preprocess wrote, read once."""

    segments: pa.Table
    tracks: pa.Table
    identities: pa.Table
    frames: FrameReader
    root: Path = Path()

    def head(self) -> Head:
        """The linear head that the clips were tracked with. Raises HeadFileError."""
        return _read_head(self.root.resolve() / HEAD_FILE)


def read_tables(root: Path = Path(), tracks: Path = TRACKS_FOLDER, subjects: Sequence[str] | None = None) -> Tables:
    """Reads data/ of a project folder, of the tracks and identities those of some subjects alone if any are named: all tracks
    of 15,000 clips are gigabytes. Raises SchemaError where a table is missing or of another version."""
    folder = root / tracks
    segments = tables.read_table(folder / "segments.parquet", tables.SEGMENTS)
    theirs = None
    if subjects is not None:
        own = pc.is_in(segments["subject_id"], pa.array(subjects, pa.string()))
        theirs = pc.field("clip_id").isin(segments["clip_id"].filter(own).combine_chunks())
    return Tables(
        segments,
        tables.read_table(folder / "tracks.parquet", tables.TRACKS, theirs),
        tables.read_table(folder / "identities.parquet", tables.IDENTITIES, theirs),
        FrameReader(root / FRAMES_FOLDER),
        root,
    )


class UnknownSegment(ValueError):
    """There is no tracked segment of that name; the message names the nearest one."""


def find_segment(data: Tables, clip_id: str) -> dict[str, Any]:
    """A segment's row. Raises UnknownSegment."""
    rows = data.segments.filter(pc.equal(data.segments["clip_id"], clip_id)).to_pylist()
    if rows:
        return dict(rows[0])
    known = data.segments["clip_id"].to_pylist()
    hint = did_you_mean(clip_id, known, "There is none at all; run `dvc repro preprocess` first")
    raise UnknownSegment(f"no tracked clip {clip_id!r}. {hint}")


def find_neural_segment(neural: Tables, clip_id: str) -> dict[str, Any]:
    """The same of the tables of track_nphm."""
    try:
        return find_segment(neural, clip_id)
    except UnknownSegment as error:
        raise UnknownSegment(f"{clip_id} has no neural head, see track_nphm.subjects: {error}") from None


@lru_cache(maxsize=4)
def _read_head(path: Path) -> Head:
    return read_head(path)


@dataclass(frozen=True)
class Shots:
    """Frames of a subject with their cameras and conditions. T frames of S x S pixels."""

    images: NDArray[np.uint8]  # (T, S, S, 3) RGB
    mattes: NDArray[np.uint8]  # (T, S, S) of the head: they fade out across the neck
    known: NDArray[np.bool_]  # (T, S, S), False where the crop reaches beyond the video's picture
    judged: NDArray[np.bool_]  # (T, S, S) known, and above the neck
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
    frames: NDArray[np.int64]  # (N,) index in the source video
    times: NDArray[np.float64]  # (N,) seconds from the source video's first frame
    head: str
    head_hash: str


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
        rows["time"].to_numpy(),
        rows["head"][0].as_py(),
        rows["head_hash"][0].as_py(),
    )


def subject_clips(data: Tables, subject_id: str, test_fraction: float) -> list[ClipSplit]:
    """The subject's segments that passed, each with its training and held-out rows."""
    return subject_splits(data.segments, data.tracks, subject_id, test_fraction)


def load_shots(data: Tables, clips: list[tuple[str, NDArray[np.int64]]], size: int, neck_of: pa.Table | None = None) -> Shots:
    """Decodes rows of segments [(clip_id, rows)] at size x size, with cameras for that size.

    Where the neck is, the same rows of the tracks `neck_of` say, or those of `data`.
    """
    necks = data.tracks if neck_of is None else neck_of
    images, mattes, known, Ks, viewmats, of_neck, conditions, names, frames = [], [], [], [], [], [], [], [], []
    stored = size
    for clip_id, rows in clips:
        tracks = clip_tracks(data.tracks, clip_id)
        for row in rows.tolist():
            frame = data.frames.decode(clip_id, row)
            stored = len(frame.image)
            frame = shrunk(frame, size)
            images.append(frame.image)
            mattes.append(frame.matte)
            known.append(frame.known)
            names.append(clip_id)
        Ks.append(tracks.K[rows])
        viewmats.append(tracks.viewmat[rows])
        of_neck.append((tracks if necks is data.tracks else clip_tracks(necks, clip_id)).viewmat[rows])
        conditions.append(tracks.conditions[rows])
        frames.append(tracks.frames[rows])
    camera = Camera(torch.from_numpy(np.concatenate(Ks)), torch.from_numpy(np.concatenate(viewmats)), stored, stored)
    camera = resized(camera, size, size)
    above = above_neck(replace(camera, viewmat=torch.from_numpy(np.concatenate(of_neck))))
    heads = [(matte * share).round().astype(np.uint8) for matte, share in zip(mattes, above, strict=True)]
    return Shots(
        np.stack(images),
        np.stack(heads),
        np.stack(known),
        np.stack(known) & (above == 1),
        camera,
        torch.from_numpy(np.concatenate(conditions)),
        names,
        np.concatenate(frames),
    )


def above_neck(camera: Camera) -> NDArray[np.float32]:
    """How much of each pixel belongs to the head (B, H, W): 1 above a line across the neck, 0 below, soft between.

    A torso does not move with the head, so in the head's frame it is only a blur; head avatars leave it out.
    """
    left, right, lower = project(torch.tensor([NECK_LEFT, NECK_RIGHT, BELOW_NECK])[None], camera).unbind(1)  # (B, 2)
    along = right - left
    normal = torch.stack([-along[:, 1], along[:, 0]], 1)
    normal = normal / normal.norm(dim=1, keepdim=True)
    normal = normal * torch.sign(((lower - left) * normal).sum(1, keepdim=True))  # points down the neck
    y, x = torch.meshgrid(torch.arange(camera.height) + 0.5, torch.arange(camera.width) + 0.5, indexing="ij")
    depth = torch.einsum("hwc,bc->bhw", torch.stack([x, y], -1), normal) - (left * normal).sum(1)[:, None, None]
    return (0.5 - depth / (NECK_SOFTNESS * camera.height)).clamp(0, 1).numpy()


def subject_identity(data: Tables, clip_id: str) -> dict[str, Any]:
    """The identities row of a segment."""
    rows = data.identities.filter(pc.equal(data.identities["clip_id"], clip_id)).to_pylist()
    if not rows:
        raise KeyError(f"{clip_id}: no identity in {TRACKS_FOLDER / 'identities.parquet'}; run `dvc repro preprocess`")
    return dict(rows[0])
