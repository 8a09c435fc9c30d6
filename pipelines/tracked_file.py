"""A video, or a folder of one picture, that is tracked as preprocess would do it, in this process and with the same cache."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import pyarrow as pa
import torch
from torch import Tensor

from avatar_models.cameras import Camera
from avatar_models.tracking.landmarker import quiet_native_log
from pipelines import tables
from pipelines.atomic import sha256_file
from pipelines.cache import Cache, DamagedEntry, Entry
from pipelines.catalog import catalog_row
from pipelines.fanout import Item, ItemRejected
from pipelines.fanout.here import entries_here
from pipelines.frames import StoredFrame, decode_frame
from pipelines.params import Params
from pipelines.pictures import pictures_digest
from pipelines.preprocess import clip_items, preprocess_steps
from pipelines.preprocess.assemble import FIT, OBSERVE
from pipelines.probe import probe_video
from pipelines.sources import VideoClip
from pipelines.subject import ClipTracks, Tables, clip_tracks, find_segment, subject_identity
from pipelines.video_facts import ProbeError

CLIP = "clip"
"""The name of every file's clip: the same bytes are tracked once, wherever they lie and whatever they are called."""


@dataclass(frozen=True)
class TrackedFrames:
    """A segment with its stored crops. N frames."""

    tracks: ClipTracks
    identity: Tensor  # (I,)
    head_hash: str
    crops: pa.RecordBatch  # N rows of tables.FRAMES

    def __len__(self) -> int:
        return len(self.tracks.frames)

    @property
    def camera(self) -> Camera:
        """The N cameras of the stored crops."""
        side = len(self.crop(0).image)
        return Camera(torch.from_numpy(self.tracks.K), torch.from_numpy(self.tracks.viewmat), side, side)

    def crop(self, row: int) -> StoredFrame:
        return decode_frame(self.crops, row)


@dataclass(frozen=True)
class TrackedFile:
    """What was found in a file."""

    segments: list[TrackedFrames]  # more than one where the picture cuts, or the face is away for long
    looked_at: int  # frames that were decoded
    frames: int  # of the whole file


def tracked(path: Path, params: Params) -> TrackedFile:
    """The tracks of a file with the parameters of `preprocess`, from the cache where they are there.

    Raises ItemRejected for a file that cannot be read or shows no face, HeadError, LandmarkerError, CacheUnusable, DiskFull.
    """
    item, cache = file_item(path, params), Cache(params.compute.cache)
    try:
        return _tracked(item, cache, params)
    except DamagedEntry as error:
        cache.forget(error.key)
        return _tracked(item, cache, params)


def tracked_segment(data: Tables, clip_id: str) -> TrackedFrames:
    """A segment of the project's tables. Raises UnknownSegment."""
    find_segment(data, clip_id)
    identity = subject_identity(data, clip_id)
    tracks = clip_tracks(data.tracks, clip_id)
    return TrackedFrames(tracks, torch.tensor(identity["identity"]), identity["head_hash"], data.frames.clip(clip_id))


def file_item(path: Path, params: Params) -> Item:
    """A file as an item of preprocess: its key depends on its bytes alone. Raises ItemRejected."""
    try:
        facts = probe_video(path)
        content = pictures_digest(path) if path.is_dir() else sha256_file(path)
    except ProbeError as error:
        raise ItemRejected(error.reason, f"{path}: {error.message}") from None
    clip = {**vars(VideoClip(CLIP, CLIP, "cam0", path)), "path": str(path)}
    catalog = pa.Table.from_pylist([catalog_row(clip, facts, content)], schema=tables.CATALOG)
    (item,) = clip_items(catalog, params.preprocess)
    return item


def _tracked(item: Item, cache: Cache, params: Params) -> TrackedFile:
    with threads_kept(), quiet_native_log():
        entries = entries_here(cache, preprocess_steps(params), item, {})
    summary = entries[OBSERVE].summary
    segments = [_segment(entries, number, row["clip_id"]) for number, row in enumerate(summary["segments"])]
    return TrackedFile(segments, summary["frames"]["decoded"], summary["frames"]["in_clip"])


def _segment(entries: list[Entry], number: int, clip_id: str) -> TrackedFrames:
    (identity,) = entries[FIT].read_table(f"identity-{number}").to_pylist()
    return TrackedFrames(
        clip_tracks(entries[FIT].read_table(f"tracks-{number}"), clip_id),
        torch.tensor(identity["identity"]),
        identity["head_hash"],
        entries[OBSERVE].read_table(f"frames-{number}").combine_chunks().to_batches()[0],
    )


@contextmanager
def threads_kept() -> Iterator[None]:
    """Gives this process its threads back: workers of preprocess take one each, and expect a process of their own."""
    of_torch, of_opencv = torch.get_num_threads(), cv2.getNumThreads()
    try:
        yield
    finally:
        torch.set_num_threads(of_torch)
        cv2.setNumThreads(of_opencv)
