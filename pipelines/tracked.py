"""One segment as it was tracked, frame by frame: what an overlay draws, from the tables of preprocess."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from avatar_models.cameras import project
from avatar_models.heads.interface import Head
from pipelines import tables
from pipelines.formats.clip import TrackedClip, surface, tracked_rows
from pipelines.subject import TRACKS_FOLDER, Tables, find_segment

LANDMARKS_FILE = TRACKS_FOLDER / "landmarks.parquet"
EARLY = 0.25
"""Of the usual interval: a frame that comes so much early, or less, has all the frames before it that it would have in time."""


class TrackedHead(Protocol):
    """A head's surface in every frame of a segment, V vertices."""

    @property
    def template(self) -> NDArray[np.float32]:
        """(V, 3) at rest, metres."""
        ...

    @property
    def faces(self) -> NDArray[np.int64]:
        """(F, 3)"""
        ...

    @property
    def masks(self) -> Mapping[str, NDArray[np.bool_]]:
        """Parts that the model tells apart (V,), by name; those of `Head.masks`."""
        ...

    def posed(self, row: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Its vertices (V, 3) in one frame, and the detector's points on it (478, 3), metres."""
        ...


@dataclass(frozen=True)
class FittedHead:
    """The linear head as preprocess has fitted it."""

    model: Head
    clip: TrackedClip

    @property
    def template(self) -> NDArray[np.float32]:
        return np.asarray(self.model.rig.template.numpy())

    @property
    def faces(self) -> NDArray[np.int64]:
        return np.asarray(self.model.faces.numpy())

    @property
    def masks(self) -> Mapping[str, NDArray[np.bool_]]:
        return {name: mask.numpy() for name, mask in self.model.masks.items()}

    def posed(self, row: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        vertices = surface(self.model, self.clip, row)
        return vertices, self.model.landmarks(torch.from_numpy(vertices)[None])[0].numpy()


@dataclass(frozen=True)
class TrackedSegment:
    """N frames with what was found in them; all of them, also those that training does not read."""

    row: dict[str, Any]  # of tables.SEGMENTS
    clip: TrackedClip
    head: TrackedHead
    times: NDArray[np.float64]  # (N,) seconds in the video
    crops: NDArray[np.float64]  # (N, 3) x0, y0, scale: source pixel = scale * crop pixel + (x0, y0)
    detected: NDArray[np.float32]  # (N, 478, 2) pixels of the stored crop
    reprojection: NDArray[np.float32]  # (N,) over the distance between the eyes
    confidence: NDArray[np.float32]  # (N,)
    good: NDArray[np.bool_]  # (N,)

    def __len__(self) -> int:
        return len(self.times)

    @property
    def side(self) -> int:
        """Of the stored crops, pixels."""
        return self.clip.width

    def posed(self, row: int) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """The head in one frame: its surface (V, 3) in metres, its landmarks (478, 2) in pixels of the stored crop."""
        vertices, points = self.head.posed(row)
        return vertices, project(torch.from_numpy(points)[None], self.clip.camera[row : row + 1])[0].float().numpy()


@dataclass(frozen=True)
class Moment:
    """A frame of the video that was looked at: with a row of the segment, or None where no face was found."""

    time: float  # seconds in the video
    row: int | None
    frame: int | None = None  # index in the source video where it is known


def moments_of_crops(segment: TrackedSegment) -> list[Moment]:
    """The rows in order, with the frames without a face that lie between, as many as the usual interval says.

    Never more than there are frames of the video between the two: a forged time stamp may claim a century.
    """
    times, frames = segment.times.tolist(), segment.clip.frames.tolist()
    usual = float(np.median(np.diff(times))) if len(times) > 1 else 0.0
    found = [Moment(times[0], 0)]
    for row, ((before, time), (frame, next_frame)) in enumerate(zip(pairwise(times), pairwise(frames), strict=True), 1):
        steps = min(int((time - before) / usual + EARLY), next_frame - frame) if usual > 0 else 1
        found += [Moment(before + (time - before) * k / steps, None) for k in range(1, steps)]
        found.append(Moment(time, row))
    return found


def rate(moments: Sequence[Moment]) -> float:
    """Moments a second; 0 where there is one only, or no time passes."""
    seconds = moments[-1].time - moments[0].time
    return (len(moments) - 1) / seconds if seconds > 0 else 0.0


def read_tracked(data: Tables, clip_ids: Sequence[str]) -> Iterator[TrackedSegment]:
    """Segments by their names, one at a time. Raises UnknownSegment, SchemaError, FormatError."""
    rows = [find_segment(data, clip_id) for clip_id in clip_ids]
    landmarks = clip_landmarks(data.root, clip_ids)
    for row in rows:
        yield _segment(data, row, landmarks)


def clip_landmarks(root: Path, clip_ids: Sequence[str]) -> pa.Table:
    """The landmarks of some segments: those of 15,000 clips are 17 GB and never all in memory. Raises SchemaError."""
    path = root / LANDMARKS_FILE
    if not path.exists():
        raise tables.SchemaError(f"{path}: not found. `dvc repro` makes it.")
    try:
        tables.check_schema(pq.read_schema(path), tables.LANDMARKS, path)
        return pq.read_table(path, filters=pc.field("clip_id").isin(list(clip_ids)), columns=["clip_id", "frame", "points"])
    except pa.ArrowInvalid as error:
        raise tables.SchemaError(f"{path}: damaged ({error}). Delete it; `dvc repro` makes it again.") from None


def _segment(data: Tables, row: dict[str, Any], landmarks: pa.Table) -> TrackedSegment:
    clip_id = row["clip_id"]
    tracks = data.tracks.filter(pc.equal(data.tracks["clip_id"], clip_id)).sort_by("frame")
    if not tracks.num_rows:
        raise tables.SchemaError(f"{data.root / TRACKS_FOLDER}: has no tracks of {clip_id}. `dvc repro` makes them again.")
    everything = np.arange(tracks.num_rows)
    clip, head = tracked_rows(data, clip_id, everything, np.zeros(0, np.int64))
    points = landmarks.filter(pc.equal(landmarks["clip_id"], clip_id)).sort_by("frame")
    frames = data.frames.clip(clip_id)
    for name, found in (("landmarks", points["frame"].to_numpy()), ("frames", frames["frame"].to_numpy())):
        if not np.array_equal(found, clip.frames):
            raise tables.SchemaError(f"{clip_id}: its tracks and its {name} are of different runs. `dvc repro` makes both.")
    places = points["points"].combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(len(points), -1, 3)
    return TrackedSegment(
        row,
        clip,
        FittedHead(head, clip),
        tracks["time"].to_numpy(),
        np.array(frames["crop"].to_pylist(), np.float64),
        places[..., :2],
        tracks["reprojection"].to_numpy(),
        tracks["confidence"].to_numpy(),
        tracks["good"].to_numpy(zero_copy_only=False),
    )
