"""Every Arrow schema of the project, each with its version in the schema's metadata.

`frames` is stored as memory-mapped Arrow IPC shards (:mod:`pipelines.frames`), the other tables as Parquet. A reader
that meets another version says which and stops. Units: pixels with centres at +0.5, seconds, metres, radians.
"""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.atomic import atomic_path

NUM_LANDMARKS = 478


class SchemaError(ValueError):
    """A table on disk is not what this version reads."""


def _table(name: str, version: int, fields: list[pa.Field]) -> pa.Schema:
    return pa.schema(fields, metadata={"headwater.table": name, "headwater.version": str(version)})


def _required(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)


def _vector(size: int) -> pa.DataType:
    return pa.list_(pa.float32(), size)


CATALOG = _table(
    "catalog",
    2,
    [
        _required("clip_id", pa.string()),  # unique; [A-Za-z0-9._-] only
        _required("subject_id", pa.string()),
        _required("camera_id", pa.string()),
        _required("source", pa.string()),  # path or URI of the encoded video
        _required("frame_start", pa.int64()),  # first frame of the clip in the video, in decoding order
        _required("frame_end", pa.int64()),  # one past the last
        _required("fps", pa.float64()),  # measured: (frames - 1) / (last time - first time)
        _required("fps_header", pa.float64()),  # what the container claims
        _required("frames_header", pa.int64()),  # what the container promises; 0 where it says nothing
        _required("frames_found", pa.int64()),  # video packets that the container really holds
        _required("variable_rate", pa.bool_()),  # frame intervals differ by more than half of their median
        _required("width", pa.int32()),  # of the upright picture: rotation applied
        _required("height", pa.int32()),
        _required("rotation", pa.int32()),  # degrees the stored picture is turned, 0, 90, 180 or 270
        pa.field("crop", pa.list_(pa.float32())),  # x0 y0 x1 y1 in pixels of this video, four values or null
        _required("split", pa.string()),  # train or test: what the clip is for
        pa.field("sequence", pa.string()),  # what several cameras filmed at the same time; null where there was one
        pa.field("K", pa.list_(pa.float64())),  # row-major 3 x 3 in pixels of this video, or null: not known
        pa.field("viewmat", pa.list_(pa.float64())),  # row-major 4 x 4, the subject's world to camera, metres, or null
        _required("fingerprint", pa.string()),  # sha256 of the file's bytes and the clip's range and crop
    ],
)

FRAMES = _table(
    "frames",
    2,
    [
        _required("clip_id", pa.string()),  # a segment's id, see SEGMENTS
        _required("frame", pa.int64()),  # index in the source video
        _required("time", pa.float64()),  # seconds from the video's first frame
        _required("image", pa.binary()),  # JPEG, size x size RGB
        _required("matte", pa.binary()),  # PNG, size x size gray; 255 is the person
        _required("crop", _vector(3)),  # x0, y0, scale: source pixel = scale * crop pixel + (x0, y0)
        _required("picture", _vector(4)),  # left, top, right, bottom of the source picture in crop pixels
    ],
)

LANDMARKS = _table(
    "landmarks",
    1,
    [
        _required("clip_id", pa.string()),
        _required("frame", pa.int64()),
        _required("points", _vector(NUM_LANDMARKS * 3)),  # x, y in crop pixels; z in the same unit, relative
        pa.field("blendshapes", pa.list_(pa.float32())),  # 52 scores by blendshapes.NAMES, or null: FaceMesh gives none
        _required("confidence", pa.float32()),  # of the face detector, 0 to 1
    ],
)

TRACKS = _table(
    "tracks",
    1,
    [
        _required("clip_id", pa.string()),
        _required("frame", pa.int64()),
        _required("time", pa.float64()),
        _required("K", _vector(9)),  # row-major 3 x 3, in pixels of the stored crop
        _required("viewmat", _vector(16)),  # row-major 4 x 4, head's world to camera
        _required("neck", _vector(3)),  # axis-angle
        _required("jaw", _vector(3)),
        _required("eyes", _vector(6)),  # left, right
        _required("expression", pa.list_(pa.float32())),
        _required("reprojection", pa.float32()),  # median landmark distance over the inter-ocular distance
        _required("jitter", pa.float32()),  # median second difference of the detections over the same
        _required("coverage", pa.float32()),  # share of the face's landmarks inside the crop
        _required("confidence", pa.float32()),
        _required("good", pa.bool_()),  # this frame passed the per-frame gates
        _required("head", pa.string()),
        _required("head_hash", pa.string()),  # sha256 of the head model's arrays
    ],
)

IDENTITIES = _table(
    "identities",
    1,
    [
        _required("subject_id", pa.string()),
        _required("clip_id", pa.string()),  # the clip it was fitted on
        _required("head", pa.string()),
        _required("head_hash", pa.string()),
        _required("identity", pa.list_(pa.float32())),
    ],
)

SEGMENTS = _table(
    "segments",
    1,
    [
        _required("clip_id", pa.string()),  # catalog clip_id, or clip_id~1, clip_id~2 ... after a cut or a long gap
        _required("catalog_clip_id", pa.string()),
        _required("subject_id", pa.string()),
        _required("camera_id", pa.string()),
        _required("split", pa.string()),
        _required("frame_start", pa.int64()),
        _required("frame_end", pa.int64()),
        _required("fps", pa.float64()),  # of the kept frames
        _required("num_frames", pa.int64()),
        _required("num_good", pa.int64()),
        _required("reprojection", pa.float32()),  # medians over the segment
        _required("jitter", pa.float32()),
        _required("coverage", pa.float32()),  # share of the segment's frames with a face
        _required("passed", pa.bool_()),
        _required("reason", pa.string()),  # empty, or the gate that failed with its figure
        _required("fingerprint", pa.string()),  # sha256 of the segment's rows in all tables: what training depends on
    ],
)

QUARANTINE = _table(
    "quarantine",
    1,
    [
        _required("stage", pa.string()),
        _required("item", pa.string()),
        _required("attempts", pa.int32()),
        _required("reason", pa.string()),  # one word with underscores, for --retry
        _required("error_class", pa.string()),
        _required("message", pa.string()),
        _required("traceback", pa.string()),
    ],
)


def check_schema(found: pa.Schema, wanted: pa.Schema, path: str | os.PathLike[str]) -> None:
    """Raises SchemaError when a file holds another table, another version or other columns than wanted."""
    wanted_meta, found_meta = wanted.metadata or {}, found.metadata or {}
    name, version = wanted_meta[b"headwater.table"].decode(), wanted_meta[b"headwater.version"].decode()
    found_name = found_meta.get(b"headwater.table", b"?").decode()
    found_version = found_meta.get(b"headwater.version", b"?").decode()
    if (found_name, found_version) != (name, version):
        raise SchemaError(
            f"{path}: holds table {found_name!r} version {found_version}, this code reads {name!r} version {version}. "
            "Run `dvc repro` to make it again with this code."
        )
    if not found.equals(wanted):
        raise SchemaError(
            f"{path}: columns of table {name!r} differ from version {version}: {found.names} against {wanted.names}"
        )


def write_table(table: pa.Table, schema: pa.Schema, path: Path) -> None:
    """Writes one Parquet table atomically; the same rows give the same bytes."""
    with atomic_path(path) as temporary:
        pq.write_table(table.cast(schema), temporary, compression="zstd")


def read_table(path: Path, schema: pa.Schema, rows: pc.Expression | None = None) -> pa.Table:
    """Reads one Parquet table, or its rows for which an expression holds, and checks that it is the wanted one."""
    if not path.exists():
        raise SchemaError(f"{path}: not found. `dvc repro` makes it.")
    try:
        check_schema(pq.read_schema(path), schema, path)
        return pq.read_table(path, filters=rows)
    except pa.ArrowInvalid as error:
        raise SchemaError(f"{path}: damaged ({error}). Delete it; `dvc repro` makes it again.") from None
