"""Putting the clips' cached pieces together, one segment in memory at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from avatar_models.heads.interface import Head
from avatar_models.heads.storage import save_head
from pipelines import tables
from pipelines.atomic import atomic_path
from pipelines.cache import Entry
from pipelines.fanout import FanOutResult
from pipelines.frames import write_frames
from pipelines.subject import FRAMES_FOLDER, HEAD_FILE, TRACKS_FOLDER

OBSERVE, FIT = 0, 1  # places of the two steps in an item's entries
ROW_GROUP_BYTES = 64 * 1024**2


def write_head(head: Head, root: Path = Path()) -> None:
    """Writes the head that clips are tracked with beside their tracks."""
    with atomic_path(root / HEAD_FILE) as temporary:
        save_head(temporary, head)


def write_outs(result: FanOutResult, together: FanOutResult, root: Path = Path()) -> list[dict[str, Any]]:
    """Writes data/frames and data/tracks of a project folder; returns the rows of its segments."""
    fits = fits_of(result, together)
    write_frames(root / FRAMES_FOLDER, observed_parts(result, "frames"))
    for parts, schema, file in (
        (observed_parts(result, "landmarks"), tables.LANDMARKS, "landmarks.parquet"),
        (fitted_parts(fits, "tracks"), tables.TRACKS, "tracks.parquet"),
        (fitted_parts(fits, "identity"), tables.IDENTITIES, "identities.parquet"),
    ):
        write_parts(parts, schema, root / TRACKS_FOLDER / file)
    segments = [row for fit in fits.values() for row in fit.segments]
    table = pa.Table.from_pylist(segments, schema=tables.SEGMENTS)
    tables.write_table(table, tables.SEGMENTS, root / TRACKS_FOLDER / "segments.parquet")
    return segments


def observed_parts(result: FanOutResult, name: str) -> Iterator[tuple[str, pa.Table]]:
    """(clip_id, table) of every segment in order: the table that `observe` wrote as NAME-0, NAME-1, ..."""
    for entries in result.entries.values():
        for number, segment in enumerate(entries[OBSERVE].summary["segments"]):
            yield segment["clip_id"], entries[OBSERVE].read_table(f"{name}-{number}")


@dataclass(frozen=True)
class Fitted:
    """Where the fit of one clip lies."""

    entry: Entry
    prefix: str  # of the segment's number in the names of the entry's files
    segments: list[dict[str, Any]]  # rows of tables.SEGMENTS


def fits_of(result: FanOutResult, together: FanOutResult) -> dict[str, Fitted]:
    """The fit of each clip, in order: that of its group where there is one, else its own."""
    fits = {name: Fitted(entries[FIT], "", entries[FIT].summary["segments"]) for name, entries in result.entries.items()}
    for group in together.entries:
        entry = together.last(group)
        for name, segments in entry.summary["members"].items():
            fits[name] = Fitted(entry, f"{name}-", segments)
    return fits


def fitted_parts(fits: Mapping[str, Fitted], name: str) -> Iterator[tuple[str, pa.Table]]:
    """(clip_id, table) of every segment in order: the fit's table NAME."""
    for fit in fits.values():
        for number, segment in enumerate(fit.segments):
            yield segment["clip_id"], fit.entry.read_table(f"{name}-{fit.prefix}{number}")


def write_parts(parts: Iterable[tuple[str, pa.Table]], schema: pa.Schema, path: Path) -> None:
    """Writes one Parquet table atomically from its parts, row group by row group.

    Landmarks of 15,000 clips are 17 GB: they are never all in memory. The same parts give the same bytes.
    """
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
        group = [schema.empty_table()]
        for _, part in parts:
            group.append(part.cast(schema))
            if sum(held.nbytes for held in group) >= ROW_GROUP_BYTES:
                writer.write_table(pa.concat_tables(group))
                group = [schema.empty_table()]
        writer.write_table(pa.concat_tables(group))
