"""Encoded frames in a few large, memory-mapped Arrow IPC files: random reads cost microseconds, and there is no file per frame.

A shard holds whole segments, one record batch each. Where a shard ends depends on the segments' names and sizes alone, so
that one clip more changes the shard that it falls into and, at most, the one after.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines import tables
from pipelines.atomic import atomic_path

MIN_SHARD_BYTES = 64 * 1024**2
MAX_SHARD_BYTES = 512 * 1024**2
CLOSE_ONE_IN = 8
"""Past the least size a shard is closed after about every eighth segment, chosen by its name's digest."""

EDGE = 1e-3  # of a pixel, for what float32 loses

INDEX = "index.parquet"
INDEX_SCHEMA = pa.schema(
    [("clip_id", pa.string()), ("shard", pa.string()), ("batch", pa.int32()), ("num_rows", pa.int64())],
    metadata={"headwater.table": "frames-index", "headwater.version": "1"},
)


def write_frames(folder: Path, segments: Iterable[tuple[str, pa.Table]]) -> None:
    """Writes segments (clip_id, rows of tables.FRAMES), given in the order of their ids, as shards and an index.

    One segment is in memory at a time. The same segments give the same bytes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    index: list[dict[str, object]] = []
    pending = iter(segments)
    segment = next(pending, None)
    number = 0
    while segment is not None:
        name = f"shard-{number:05d}.arrow"
        with atomic_path(folder / name) as temporary, pa.ipc.new_file(str(temporary), tables.FRAMES) as writer:
            size, batch = 0, 0
            while segment is not None:
                clip_id, rows = segment
                writer.write_batch(rows.cast(tables.FRAMES).combine_chunks().to_batches()[0])
                index.append({"clip_id": clip_id, "shard": name, "batch": batch, "num_rows": rows.num_rows})
                size, batch = size + rows.nbytes, batch + 1
                segment = next(pending, None)
                if size > MAX_SHARD_BYTES or (size > MIN_SHARD_BYTES and _closes_shard(clip_id)):
                    break
        number += 1
    tables.write_table(pa.Table.from_pylist(index, schema=INDEX_SCHEMA), INDEX_SCHEMA, folder / INDEX)


def _closes_shard(clip_id: str) -> bool:
    return hashlib.sha256(clip_id.encode()).digest()[0] % CLOSE_ONE_IN == 0


@dataclass(frozen=True)
class StoredFrame:
    """One decoded frame of a segment."""

    image: NDArray[np.uint8]  # (S, S, 3) RGB
    matte: NDArray[np.uint8]  # (S, S), 255 is the person
    known: NDArray[np.bool_]  # (S, S), False where the crop reaches beyond the video's picture


def whole_frame(image: NDArray[np.uint8], matte: NDArray[np.uint8]) -> StoredFrame:
    """A frame all of which the video shows."""
    return StoredFrame(image, matte, np.ones(matte.shape, np.bool_))


class FrameReader:
    """Frames of any segment at random; the shards are mapped, not read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        index = tables.read_table(folder / INDEX, INDEX_SCHEMA)
        self._place = {row["clip_id"]: (row["shard"], row["batch"]) for row in index.to_pylist()}
        self._shards: dict[str, pa.ipc.RecordBatchFileReader] = {}

    @property
    def clip_ids(self) -> list[str]:
        return list(self._place)

    def clip(self, clip_id: str) -> pa.RecordBatch:
        """All rows of a segment, encoded, without copying. Raises KeyError for an unknown one."""
        shard, batch = self._place[clip_id]
        if shard not in self._shards:
            reader = pa.ipc.open_file(pa.memory_map(str(self.folder / shard)))
            tables.check_schema(reader.schema, tables.FRAMES, self.folder / shard)
            self._shards[shard] = reader
        return self._shards[shard].get_batch(batch)

    def decode(self, clip_id: str, row: int) -> StoredFrame:
        """The row-th frame of a segment."""
        return decode_frame(self.clip(clip_id), row)


def decode_frame(rows: pa.RecordBatch, row: int) -> StoredFrame:
    """Decodes one row of a frames table."""
    image = cv2.imdecode(np.frombuffer(rows["image"][row].as_buffer(), np.uint8), cv2.IMREAD_COLOR)
    matte = cv2.imdecode(np.frombuffer(rows["matte"][row].as_buffer(), np.uint8), cv2.IMREAD_GRAYSCALE)
    return StoredFrame(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), matte, inside(rows["picture"][row].as_py(), len(image)))


def inside(picture: Sequence[float], size: int) -> NDArray[np.bool_]:
    """(S, S): the pixels that lie wholly in the source picture, given by its left, top, right and bottom in crop pixels."""
    left, top, right, bottom = picture
    low, high = np.arange(size), np.arange(size) + 1
    x, y = (low >= left - EDGE) & (high <= right + EDGE), (low >= top - EDGE) & (high <= bottom + EDGE)
    return np.asarray(y[:, None] & x[None])


def shrunk(frame: StoredFrame, size: int) -> StoredFrame:
    """The frame resampled to size x size by area."""
    if size == len(frame.image):
        return frame
    image, matte = (cv2.resize(one, (size, size), interpolation=cv2.INTER_AREA) for one in (frame.image, frame.matte))
    # A pixel that takes from one that is not known is not known.
    unknown = cv2.resize((~frame.known).astype(np.float32), (size, size), interpolation=cv2.INTER_AREA)
    return StoredFrame(image, matte, unknown == 0)


Background = float | NDArray[np.float32]


def composite(image: NDArray[np.uint8], matte: NDArray[np.uint8], background: Background) -> NDArray[np.float32]:
    """The person over a gray level or colour (3,) in [0, 1]: (..., H, W, 3) and (..., H, W) uint8 -> float32 in [0, 1]."""
    alpha = matte[..., None].astype(np.float32) / 255.0
    return np.asarray(image.astype(np.float32) / 255.0 * alpha + background * (1.0 - alpha), np.float32)
