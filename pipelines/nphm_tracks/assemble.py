"""data/tracks_nphm: the tables of `preprocess`, of neural heads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from pipelines import tables
from pipelines.fanout import FanOutResult
from pipelines.keys import digest
from pipelines.preprocess.assemble import write_parts
from pipelines.subject import NPHM_TRACKS_FOLDER


def write_tracks(result: FanOutResult, min_frames: int, root: Path = Path()) -> list[dict[str, Any]]:
    """Writes the tables, empty ones where nobody was tracked; returns the rows of the segments, in order.

    A segment passes with so many good frames.
    """
    folder = root / NPHM_TRACKS_FOLDER
    of_clip = {
        row["clip_id"]: (row, result.last(name)) for name in result.entries for row in result.last(name).summary["segments"]
    }
    clips = sorted(of_clip)
    for name, schema, file in (("tracks", tables.TRACKS, "tracks"), ("identity", tables.IDENTITIES, "identities")):
        parts = ((clip, of_clip[clip][1].read_table(f"{name}-{clip}")) for clip in clips)
        write_parts(parts, schema, folder / f"{file}.parquet")
    segments = [with_verdict(of_clip[clip][0], min_frames) for clip in clips]
    tables.write_table(pa.Table.from_pylist(segments, schema=tables.SEGMENTS), tables.SEGMENTS, folder / "segments.parquet")
    tables.write_table(result.quarantine_table(), tables.QUARANTINE, folder / "quarantine.parquet")
    return segments


def with_verdict(segment: dict[str, Any], min_frames: int) -> dict[str, Any]:
    """A segment's row with what the number of its good frames says."""
    good, count = segment["num_good"], segment["num_frames"]
    wanted = f"{min_frames} are wanted (see track_nphm.max_misfit)"
    reason = "" if good >= min_frames else f"frames: {good} good frames of {count}, {wanted}"
    return {**segment, "passed": not reason, "reason": reason, "fingerprint": digest([segment["fingerprint"], not reason])}
