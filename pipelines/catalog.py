"""The catalog: every clip with what its video really holds. An item is a video file; a video may hold several clips."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines import tables
from pipelines.atomic import sha256_file
from pipelines.cache import Entry, EntryWriter, Failure
from pipelines.fanout import FanOutResult, Item, ItemRejected, Step
from pipelines.keys import digest
from pipelines.params import Compute
from pipelines.pictures import pictures_digest
from pipelines.probe import probe_video
from pipelines.sources import KnownCamera, VideoClip
from pipelines.video_facts import ProbeError, VideoFacts

VERSION = 3
STAGE = "catalog"
MAX_DRIFT_FRAMES = 0.5
"""Frame numbers of a source are taken as times when, at the clip's end, they would be off by more than this."""


def video_items(clips: list[VideoClip]) -> list[Item]:
    """An item for each video. Its size and times of change stand for its bytes here; the row has their digest.

    The time of the inode's change is among them: `cp -p` and `touch` set the other one to whatever they like. Of a folder of
    pictures those of each file count.
    """
    by_video: dict[Path, list[VideoClip]] = defaultdict(list)
    for clip in clips:
        by_video[clip.path].append(clip)
    items = []
    for path, own in sorted(by_video.items()):
        payload = {"path": str(path), "clips": [{**asdict(clip), "path": str(clip.path)} for clip in own]}
        seen = [_marks(path), *((printable(file.name), _marks(file)) for file in _files(path))]
        items.append(Item(printable(str(path)), digest([payload_key(payload), seen]), payload))
    return items


def _marks(path: Path) -> tuple[int, ...]:
    """What tells that a file has changed, without reading it."""
    try:
        facts = path.stat()
    except OSError as error:
        return (error.errno or 0, 0)
    return (facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)


def _files(path: Path) -> list[Path]:
    """What lies in a folder of pictures; of a file, nothing."""
    try:
        return sorted(path.iterdir()) if path.is_dir() else []
    except OSError:
        return []


def payload_key(payload: Mapping[str, Any]) -> str:
    """A digest of a payload whose paths may hold bytes that are no UTF-8."""
    return digest(printable(repr(payload)))


def printable(text: str) -> str:
    """Text with what cannot be shown (bytes of a broken file name) escaped."""
    return text.encode(errors="surrogateescape").decode(errors="backslashreplace")


class ProbeVideo:
    """Reads all packets of a video and makes the catalog rows of its clips."""

    def __init__(self, params: Mapping[str, Any]) -> None:
        pass

    def __call__(self, item: Item, upstream: Entry | None, out: EntryWriter) -> dict[str, Any]:
        path = Path(item.payload["path"])
        if printable(str(path)) != str(path):
            raise ItemRejected(
                "name_not_utf8", f"{item.id}: its name is not valid UTF-8, so no table can hold it; rename the file"
            )
        try:
            facts = probe_video(path)
        except ProbeError as error:
            raise ItemRejected(error.reason, f"{item.id}: {error.message}") from None
        try:
            content = pictures_digest(path) if path.is_dir() else sha256_file(path)
        except PermissionError:
            raise ItemRejected("unreadable", f"{item.id}: no permission to read it") from None
        rows, refused, told = [], [], facts.remarks()
        for clip in item.payload["clips"]:
            try:
                rows.append(catalog_row(clip, facts, content))
                told += clip_remarks(clip, facts)
            except ItemRejected as error:
                refused.append({"clip_id": clip["clip_id"], "reason": error.reason, "message": error.message})
        out.write_table("rows", pa.Table.from_pylist(rows, schema=tables.CATALOG))
        return {"refused": refused, "remarks": told, "frames": facts.frames_found}


def catalog_row(clip: Mapping[str, Any], facts: VideoFacts, content: str) -> dict[str, Any]:
    """One clip's row. Raises ItemRejected when its frames are not in the video."""
    start, end = clip_range(clip, facts)
    crop = clip["crop"]
    if crop is not None and clip["crop_size"] is not None:
        across, down = facts.width / clip["crop_size"][0], facts.height / clip["crop_size"][1]
        crop = [crop[0] * across, crop[1] * down, crop[2] * across, crop[3] * down]
    return {
        "clip_id": clip["clip_id"],
        "subject_id": clip["subject_id"],
        "camera_id": clip["camera_id"],
        "source": clip["path"],
        "frame_start": start,
        "frame_end": end,
        "fps": facts.fps,
        "fps_header": facts.fps_header,
        "frames_header": facts.frames_header,
        "frames_found": facts.frames_found,
        "variable_rate": facts.variable_rate,
        "width": facts.width,
        "height": facts.height,
        "rotation": facts.rotation,
        "crop": crop,
        "split": clip["split"],
        "sequence": clip["sequence"],
        **camera_columns(clip, facts),
        "fingerprint": digest([content, start, end, crop]),
    }


def camera_columns(clip: Mapping[str, Any], facts: VideoFacts) -> dict[str, list[float] | None]:
    """K and viewmat of a clip whose camera is known, for this video's size; null where its picture has another shape."""
    try:
        camera = camera_of_video(clip, facts)
    except ValueError:
        camera = None
    return {"K": list(camera.K) if camera else None, "viewmat": list(camera.viewmat) if camera else None}


def camera_of_video(clip: Mapping[str, Any], facts: VideoFacts) -> KnownCamera | None:
    """The clip's camera for this video's size, None where it is not known. Raises ValueError for another shape."""
    known = clip["known_camera"]
    return None if known is None else KnownCamera(**known).resized(facts.width, facts.height)


def clip_range(clip: Mapping[str, Any], facts: VideoFacts) -> tuple[int, int]:
    """[start, end) in frames of this video. Where the source counts at another rate, its numbers are taken as times.

    A video that was encoded again at another rate so keeps its clips; a silent assumption would lose or shift them.
    """
    start, end, claimed = clip["frame_start"], clip["frame_end"], clip["fps_claimed"]
    if end is None:
        return start, facts.frames_found
    if counts_at_another_rate(clip, facts):
        half = 0.5 / claimed
        start = int(np.searchsorted(facts.times, start / claimed - half))
        end = int(np.searchsorted(facts.times, (end - 1) / claimed + half))
    if start >= facts.frames_found or end <= start:
        raise ItemRejected(
            "range_outside_video",
            f"{clip['clip_id']}: frames {clip['frame_start']} to {clip['frame_end']} are not in {clip['path']}, "
            f"which holds {facts.frames_found}",
        )
    return start, min(end, facts.frames_found)


def counts_at_another_rate(clip: Mapping[str, Any], facts: VideoFacts) -> bool:
    """Whether the source's frame numbers, at the rate that it claims, mean other times than the video's own frames.

    Judged at the clip's end: 29.97 for 30 is one frame off after 33 s, and a second off after a quarter of an hour.
    """
    end, claimed = clip["frame_end"], clip["fps_claimed"]
    if end is None or not claimed or not facts.fps:
        return False
    drift = abs(end / claimed * facts.fps - end)
    return facts.variable_rate or drift > MAX_DRIFT_FRAMES


def clip_remarks(clip: Mapping[str, Any], facts: VideoFacts) -> list[str]:
    """What had to be mended for a clip to fit its video, in sentences."""
    told = []
    start, end = clip_range(clip, facts)
    if counts_at_another_rate(clip, facts):
        told.append(
            f"{clip['clip_id']} counts at {clip['fps_claimed']:g} frames/s, the video runs at {facts.fps:.3f}: frames "
            f"{clip['frame_start']} to {clip['frame_end'] - 1} are taken as times, here {start} to {end - 1}"
        )
    elif clip["frame_end"] is not None and end < clip["frame_end"]:
        told.append(f"{clip['clip_id']} ends at frame {clip['frame_end'] - 1}, the video at {end - 1}: it is cut off there")
    try:
        camera_of_video(clip, facts)
    except ValueError as error:
        told.append(f"{clip['clip_id']} is fitted by itself: its calibration {error}")
    return told


def probe_step(compute: Compute) -> Step:
    return Step("probe", VERSION, ProbeVideo, {}, compute.decode)


def catalog_table(result: FanOutResult, unlisted: Sequence[tuple[str, str]] = ()) -> tuple[pa.Table, pa.Table]:
    """(catalog by clip_id, quarantine) of a fan-out over videos; `unlisted` are the source's own refusals."""
    parts = [result.last(video).read_table("rows") for video in result.entries]
    table = pa.concat_tables(parts).sort_by("clip_id") if parts else tables.CATALOG.empty_table()
    refused = [
        Failure(STAGE, clip["clip_id"], 1, clip["reason"], "ItemRejected", clip["message"], "")
        for video in result.entries
        for clip in result.last(video).summary["refused"]
    ]
    refused += [Failure(STAGE, name, 1, "bad_listing", "ItemRejected", f"{name}: {why}", "") for name, why in unlisted]
    failures = sorted([*result.quarantined, *refused], key=lambda failure: failure.item)
    return table, pa.Table.from_pylist([failure.__dict__ for failure in failures], schema=tables.QUARANTINE)


def remarks(result: FanOutResult) -> list[str]:
    """What headers got wrong, a line for each."""
    return [f"{os.fspath(video)}: {remark}" for video in result.entries for remark in result.last(video).summary["remarks"]]
