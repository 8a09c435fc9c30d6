"""A tracked clip as a video that shows what tracking found: the fitted head and the landmarks over the pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch
from rich.console import Console
from rich.progress import track

from avatar_models.tracking.crop import cut_crop
from pipelines import tables
from pipelines.decode import open_decoder, pick_frames
from pipelines.lettering import Color
from pipelines.overlay import (
    GOOD,
    INK,
    LEFT_OUT,
    SOFT,
    Picture,
    Words,
    clay_of,
    draw_tracked,
    nothing_found,
    resized_crop,
    sheet,
    source_panel,
)
from pipelines.params import Gates, Preprocess, load_params
from pipelines.probe import probe_video
from pipelines.subject import CATALOG_FILE, Tables, read_tables
from pipelines.tracked import Moment, TrackedSegment, moments_of_crops, rate, read_tracked
from pipelines.video import write_video
from pipelines.video_facts import ProbeError, VideoFacts

SAME_PICTURE = 12.0
"""Mean difference, of 255, up to which a crop of the source counts as the stored one: JPEG's losses are a fifth of that."""


class OverlayError(ValueError):
    """The overlay cannot be made; the message names what is wrong and the way out."""


class SourceGone(Exception):
    """The clip's source video is not what was tracked any more; the message says why."""


@dataclass(frozen=True)
class Overlay:
    """What was written."""

    frames: int
    without_face: int
    left_out: int
    fallback: str  # why only the stored crops are shown; empty where the source is


def fitted_segment(data: Tables, clip_id: str) -> TrackedSegment:
    """With the linear head that preprocess has fitted."""
    return next(read_tracked(data, [clip_id]))


def overlay_to_file(
    clip_id: str,
    output: Path,
    *,
    size: int,
    crop_only: bool,
    console: Console,
    read: Callable[[Tables, str], TrackedSegment] = fitted_segment,
) -> Overlay:
    """Writes the overlay of a segment of this project's tables as mp4, crops shown `size` pixels wide.

    Raises what `read` does, and OverlayError, UnknownSegment, ParamsError, SchemaError, HeadFileError, FormatError, DiskFull,
    OSError.
    """
    if output.suffix.lower() != ".mp4":
        raise OverlayError(f"{output}: an overlay is an .mp4 file")
    if output.is_dir():
        raise OverlayError(f"{output}: is a folder; name a file")
    preprocess = load_params().preprocess
    data = read_tables()
    try:
        segment = read(data, clip_id)
    except OSError as error:
        raise OverlayError(f"the tables of {clip_id} cannot be read: {error}; `dvc repro` makes them again") from None
    torch.set_num_threads(1)  # small sums: more threads only get in each other's way
    fallback, source = "", None
    if not crop_only:
        try:
            source = open_source(data, segment, preprocess)
        except SourceGone as reason:
            fallback = str(reason)
    shown = source or stored_crops(data, segment)
    made: Iterable[Picture] = pictures(segment, shown, size, preprocess.gates)
    made = track(made, "drawing", len(shown.moments), console=console, transient=True, disable=not console.is_terminal)
    count = write_video(output, made, rate(shown.moments), preset="superfast")
    return Overlay(count, sum(moment.row is None for moment in shown.moments), int((~segment.good).sum()), fallback)


@dataclass(frozen=True)
class Shown:
    """The moments of an overlay and their pictures: whole source frames, or the stored crops."""

    moments: list[Moment]
    pictures: Iterator[tuple[int, Picture | None]]  # (place in moments, picture); those that cannot be decoded are left out
    source_size: tuple[int, int] | None  # width and height; None for the stored crops


def stored_crops(data: Tables, segment: TrackedSegment) -> Shown:
    """The stored crops; a frame without a face has none."""
    moments = moments_of_crops(segment)
    decoded = (
        (place, None if moment.row is None else data.frames.decode(segment.row["clip_id"], moment.row).image)
        for place, moment in enumerate(moments)
    )
    return Shown(moments, decoded, None)


def open_source(data: Tables, segment: TrackedSegment, preprocess: Preprocess) -> Shown:
    """The source's frames from the segment's first to its last, also those without a face.

    Raises SourceGone where the video is not there, or not the one that was tracked; its first crop is compared.
    """
    clip = catalog_row(segment.row["catalog_clip_id"])
    path = Path(clip["source"])
    other = f"the source video {path} is not the one that was tracked; `dvc repro` tracks it anew"
    try:
        facts = probe_video(path)
        if (facts.frames_found, facts.width, facts.height) != (clip["frames_found"], clip["width"], clip["height"]):
            raise SourceGone(other)
        moments = moments_of_source(segment, facts, clip, preprocess)
        place = {moment.frame: k for k, moment in enumerate(moments) if moment.frame is not None}
        decoder = open_decoder(path, facts, preprocess.frame_buffer_mb * 2**20)
        decoded = ((place[index], picture) for index, picture in decoder.frames(list(place)))
        first = next(decoded, None)
    except ProbeError as error:
        raise SourceGone(f"the source video {path} cannot be read any more: {error.message}") from None
    if first is None:
        raise SourceGone(f"the source video {path} cannot be decoded any more")
    stored = data.frames.decode(segment.row["clip_id"], 0).image
    row = moments[first[0]].row
    if row != 0 or np.abs(crop_of(first[1], segment, 0, len(stored)).astype(int) - stored).mean() > SAME_PICTURE:
        raise SourceGone(other)
    return Shown(moments, chain([first], decoded), (facts.width, facts.height))


def catalog_row(clip_id: str) -> dict[str, Any]:
    """A clip's row of the catalog. Raises SchemaError, SourceGone."""
    catalog = tables.read_table(CATALOG_FILE, tables.CATALOG)
    rows = catalog.filter(pc.equal(catalog["clip_id"], clip_id)).to_pylist()
    if not rows:
        raise SourceGone(f"{clip_id} is not in {CATALOG_FILE} any more; `dvc repro` brings catalog and tracks together")
    return dict(rows[0])


def moments_of_source(segment: TrackedSegment, facts: VideoFacts, clip: dict[str, Any], preprocess: Preprocess) -> list[Moment]:
    """The frames that preprocess looked at, from the segment's first to its last."""
    span = slice(clip["frame_start"], clip["frame_end"])
    looked = pick_frames(facts.times[span], preprocess.max_fps, preprocess.max_frames) + clip["frame_start"]
    frames = segment.clip.frames
    looked = looked[(looked >= frames[0]) & (looked <= frames[-1])]
    if not np.isin(frames, looked).all():  # params.yaml has changed since: show what the tracks have
        looked = frames
    row = {frame: k for k, frame in enumerate(frames.tolist())}
    return [Moment(float(facts.times[frame]), row.get(frame), frame) for frame in looked.tolist()]


def crop_of(picture: Picture, segment: TrackedSegment, row: int, size: int) -> Picture:
    """The crop of a row of the segment, cut from the source frame anew: sharper than the stored one where `size` is larger."""
    x0, y0, scale = segment.crops[row]
    return cut_crop(picture, np.array([round(x0), round(y0)]), round(scale * segment.side), size)


def pictures(segment: TrackedSegment, shown: Shown, size: int, gates: Gates) -> Iterator[Picture]:
    """The overlay, picture by picture."""
    clay = clay_of(segment.head)
    confidence = np.array([np.nan if m.row is None else segment.confidence[m.row] for m in shown.moments])
    good = np.array([m.row is not None and bool(segment.good[m.row]) for m in shown.moments])
    squares = segment.crops * [1, 1, segment.side]
    source = source_panel(shown.source_size, squares, size) if shown.source_size else None
    page = sheet(size + (source.width if source else 0), size, confidence, good, with_source=source is not None)
    for place, picture in shown.pictures:
        moment = shown.moments[place]
        row, panels = moment.row, []
        if source and picture is not None:
            square = None if row is None else tuple(squares[row])
            panels.append(source.show(picture, square, INK if good[place] else LEFT_OUT))
        if row is None:
            panels.append(nothing_found(size, size))
        elif picture is not None:
            crop = crop_of(picture, segment, row, size) if source else resized_crop(picture, size)
            panels.append(draw_tracked(crop, segment, row, clay))
        at = f"{moment.time:.2f} s" + ("" if moment.frame is None else f", frame {moment.frame}")
        yield page.filled(
            panels, place, f"{segment.row['clip_id']}   {at}", verdict(segment, row), figures(segment, row, gates)
        )


def verdict(segment: TrackedSegment, row: int | None) -> tuple[str, Color]:
    """What training makes of a frame."""
    if row is None:
        return "no face", SOFT
    if not segment.good[row]:
        return "left out of training", LEFT_OUT
    return ("good", GOOD) if segment.row["passed"] else ("the clip did not pass", LEFT_OUT)


def figures(segment: TrackedSegment, row: int | None, gates: Gates) -> Words:
    """A frame's figures; one that misses its gate, and takes the frame out of training, is red and tells the gate."""
    if row is None:
        return []
    error, confidence = segment.reprojection[row], segment.confidence[row]
    limits = f", at most {gates.max_reprojection * 100:g} %", f", at least {gates.min_confidence:g}"
    left_out = not segment.good[row]
    missed = left_out and error > gates.max_reprojection, left_out and confidence < gates.min_confidence
    told = f"landmark error {error * 100:.1f} %", f"confidence {confidence:.2f}"
    return [(text + limit, LEFT_OUT) if off else (text, SOFT) for text, limit, off in zip(told, limits, missed, strict=True)]
