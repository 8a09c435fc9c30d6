"""Putting the clips' cached pieces together, one segment in memory at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.atomic import atomic_path
from pipelines.fanout import FanOutResult

OBSERVE, FIT = 0, 1  # places of the two steps in an item's entries
ROW_GROUP_BYTES = 64 * 1024**2


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
