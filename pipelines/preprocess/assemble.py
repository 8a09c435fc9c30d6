"""Putting the clips' cached pieces together, one segment in memory at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from avatar_models.heads.interface import Head
from avatar_models.heads.storage import save_head
from pipelines import tables
from pipelines.atomic import atomic_path
from pipelines.fanout import FanOutResult
from pipelines.frames import write_frames
from pipelines.subject import FRAMES_FOLDER, HEAD_FILE, TRACKS_FOLDER

OBSERVE, FIT = 0, 1  # places of the two steps in an item's entries
ROW_GROUP_BYTES = 64 * 1024**2


def write_head(head: Head, root: Path = Path()) -> None:
    """Writes the head that clips are tracked with beside their tracks."""
    with atomic_path(root / HEAD_FILE) as temporary:
        save_head(temporary, head)


def write_outs(result: FanOutResult, root: Path = Path()) -> list[dict[str, Any]]:
    """Writes data/frames and data/tracks of a project folder; returns the rows of its segments."""
    write_frames(root / FRAMES_FOLDER, segment_parts(result, OBSERVE, "frames"))
    for step, name, schema, file in (
        (OBSERVE, "landmarks", tables.LANDMARKS, "landmarks.parquet"),
        (FIT, "tracks", tables.TRACKS, "tracks.parquet"),
        (FIT, "identity", tables.IDENTITIES, "identities.parquet"),
    ):
        write_parts(segment_parts(result, step, name), schema, root / TRACKS_FOLDER / file)
    segments = [row for _, fitted in result.entries.values() for row in fitted.summary["segments"]]
    table = pa.Table.from_pylist(segments, schema=tables.SEGMENTS)
    tables.write_table(table, tables.SEGMENTS, root / TRACKS_FOLDER / "segments.parquet")
    return segments


def segment_parts(result: FanOutResult, step: int, name: str) -> Iterator[tuple[str, pa.Table]]:
    """(clip_id, table) of every segment in order: the table that a step wrote as NAME-0, NAME-1, ..."""
    for entries in result.entries.values():
        for number, segment in enumerate(entries[step].summary["segments"]):
            yield segment["clip_id"], entries[step].read_table(f"{name}-{number}")


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
