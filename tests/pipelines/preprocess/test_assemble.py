"""Tables are put together in order and piece by piece, to the same bytes each time; frames come back as they went in."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import tables
from pipelines.frames import FrameReader, write_frames
from pipelines.preprocess import assemble
from pipelines.preprocess.assemble import write_parts


def identity(clip_id: str) -> pa.Table:
    row = {"subject_id": "s", "clip_id": clip_id, "head": "h", "head_hash": "0", "identity": [1.0, 2.0]}
    return pa.Table.from_pylist([row], schema=tables.IDENTITIES)


def test_parts_make_one_table_in_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [(name, identity(name)) for name in "abcde"]
    monkeypatch.setattr(assemble, "ROW_GROUP_BYTES", 2 * identity("a").nbytes)
    write_parts(iter(parts), tables.IDENTITIES, tmp_path / "one.parquet")
    write_parts(iter(parts), tables.IDENTITIES, tmp_path / "two.parquet")
    assert tables.read_table(tmp_path / "one.parquet", tables.IDENTITIES)["clip_id"].to_pylist() == list("abcde")
    assert pq.ParquetFile(tmp_path / "one.parquet").num_row_groups > 1
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()


def test_no_parts_make_an_empty_table(tmp_path: Path) -> None:
    write_parts(iter(()), tables.TRACKS, tmp_path / "none.parquet")
    assert tables.read_table(tmp_path / "none.parquet", tables.TRACKS).num_rows == 0


def frames(clip_id: str, count: int = 3) -> pa.Table:
    grays = [np.full((8, 8, 3), 20 * number, np.uint8) for number in range(count)]
    columns = {
        "clip_id": [clip_id] * count,
        "frame": range(count),
        "time": [number / 25 for number in range(count)],
        "image": [cv2.imencode(".jpg", gray)[1].tobytes() for gray in grays],
        "matte": [cv2.imencode(".png", gray[..., 0])[1].tobytes() for gray in grays],
        "crop": [[0.0, 0.0, 1.0]] * count,
        "picture": [[0.0, 0.0, 8.0, 8.0]] * count,
    }
    return pa.table({name: list(values) for name, values in columns.items()}, schema=tables.FRAMES)


def test_frames_are_read_at_random_and_one_clip_more_changes_few_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.frames.MIN_SHARD_BYTES", 2 * frames("a").nbytes)
    names = [f"clip-{number:03d}" for number in range(120)]
    shards = {}
    for folder, listed in (("before", [name for name in names if name != "clip-050"]), ("after", names)):
        write_frames(tmp_path / folder, ((name, frames(name)) for name in listed))
        shards[folder] = {path.read_bytes() for path in (tmp_path / folder).glob("shard-*.arrow")}
    assert len(shards["after"]) > 6
    assert len(shards["after"] - shards["before"]) <= 2
    reader = FrameReader(tmp_path / "after")
    assert reader.clip_ids == names
    stored = reader.decode("clip-050", 2)
    assert (stored.image == 40).all() and (stored.matte == 40).all()
