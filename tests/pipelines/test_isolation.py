"""A person's avatar is made of that person alone.

What isolation means here: all people's encoded frames lie in shared shards, which are mapped into memory, and their tracks
in shared tables, which each worker reads whole. So the shard's file is common; what is kept apart is its rows. Shown here is
that no row of another person's pictures is decoded and no file of another person's model is opened, and that the avatar is
the same to the byte whatever the other's rows hold. The transfer "ann<cid" uses of cid the tracks and those held-out frames
that it shows, and of the models ann's alone.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from avatar_models.avatar import FACTS, TENSORS
from pipelines import frames, tables
from pipelines.cache import Cache, EntryWriter
from pipelines.fanout import Item
from pipelines.frames import FrameReader, StoredFrame, write_frames
from pipelines.judging import JudgeAvatar
from pipelines.methods import HEADGAS
from pipelines.params import TrainHeadgas
from pipelines.training import HeadGasTrainer
from tests.opened import opened_below
from tests.pipelines.formats.made import BAD, FRAMES, write_project

SIDE, HELD_OUT = 32, [8, 9]  # the last fifth of ten frames
OPTIONS = TrainHeadgas(steps=50, num_gaussians=200, feature_dim=4, hidden_dim=8, resolution=SIDE, probes=1)
EVALUATE = {"test_fraction": 0.2, "max_frames": 100, "resolution": SIDE, "align_steps": 0, "background": "white"}
NO_PICTURE = b"no picture"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two people, ann and cid, and of both a model that nobody could load."""
    write_project(tmp_path)
    add_person(tmp_path, "cid")
    for name in ("ann", "cid"):
        (tmp_path / HEADGAS.models / name).mkdir(parents=True)
        for file in (TENSORS, FACTS):
            (tmp_path / HEADGAS.models / name / file).write_bytes(b"no model")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def add_person(root: Path, name: str) -> None:
    """Another person whose rows are ann's."""
    for file, schema in (
        ("segments", tables.SEGMENTS),
        ("tracks", tables.TRACKS),
        ("identities", tables.IDENTITIES),
    ):
        path = root / f"data/tracks/{file}.parquet"
        rows = tables.read_table(path, schema).to_pylist()
        own = [row for row in rows if row["clip_id"] == "ann"]
        named = {key: name for key in ("clip_id", "catalog_clip_id", "subject_id") if key in own[0]}
        tables.write_table(pa.Table.from_pylist([*rows, *({**row, **named} for row in own)], schema), schema, path)
    ann = pa.Table.from_batches([FrameReader(root / "data/frames").clip("ann")])
    theirs = [{**row, "clip_id": name} for row in ann.to_pylist()]
    write_frames(root / "data/frames", [("ann", ann), (name, pa.Table.from_pylist(theirs, tables.FRAMES))])


def spoil_frames(root: Path, name: str, rows: list[int]) -> None:
    """Puts what is no picture in place of some of a person's frames."""
    reader = FrameReader(root / "data/frames")
    found = [(clip_id, reader.clip(clip_id).to_pylist()) for clip_id in reader.clip_ids]
    for clip_id, stored in found:
        for row in rows if clip_id == name else []:
            stored[row].update(image=NO_PICTURE, matte=NO_PICTURE)
    write_frames(root / "data/frames", [(clip_id, pa.Table.from_pylist(rows, tables.FRAMES)) for clip_id, rows in found])


def spoil_tracks(root: Path, name: str) -> None:
    """Makes a person's cameras, expressions and identity numbers of no meaning."""
    for file, schema, columns in (
        ("tracks", tables.TRACKS, ("K", "viewmat", "expression", "jaw", "eyes")),
        ("identities", tables.IDENTITIES, ("identity",)),
    ):
        path = root / f"data/tracks/{file}.parquet"
        rows = tables.read_table(path, schema).to_pylist()
        for row in rows:
            if row["clip_id"] == name:
                row.update({column: [float("nan")] * len(row[column]) for column in columns})
        tables.write_table(pa.Table.from_pylist(rows, schema), schema, path)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> set[tuple[str, int]]:
    """(clip_id, row) of every stored frame that is decoded from here on, by whomever."""
    seen: set[tuple[str, int]] = set()
    decode = frames.decode_frame

    def record(rows: pa.RecordBatch, row: int) -> StoredFrame:
        seen.add((rows["clip_id"][row].as_py(), row))
        return decode(rows, row)

    monkeypatch.setattr(frames, "decode_frame", record)
    return seen


def train(trainer: HeadGasTrainer, subject: str, folder: Path) -> EntryWriter:
    writer = Cache(str(folder)).writer("a" * 64)
    trainer(Item(subject, "0"), None, writer)
    return writer


def trainer() -> HeadGasTrainer:
    return HeadGasTrainer({"test_fraction": 0.2, "train_headgas": OPTIONS.as_key()})


def test_training_decodes_no_frame_of_another_and_opens_no_model(
    project: Path, tmp_path: Path, decoded: set[tuple[str, int]]
) -> None:
    with opened_below(HEADGAS.models) as models:
        made = train(trainer(), "ann", tmp_path / "cache")
    assert decoded == {("ann", row) for row in range(FRAMES) if row != BAD} and not models
    assert {TENSORS, FACTS} <= made.files.keys()


def test_an_avatar_is_the_same_whatever_the_others_rows_hold_and_whoever_was_trained_before(
    project: Path, tmp_path: Path
) -> None:
    worker = trainer()
    train(worker, "cid", tmp_path / "cid")
    after_another = train(worker, "ann", tmp_path / "after")
    spoil_frames(project, "cid", list(range(FRAMES)))
    spoil_tracks(project, "cid")
    beside_rubbish = train(trainer(), "ann", tmp_path / "beside")
    assert after_another.files == beside_rubbish.files  # names, sizes and digests


def test_a_transfer_reads_of_the_driver_what_it_shows_and_of_the_models_the_avatars(
    project: Path, tmp_path: Path, decoded: set[tuple[str, int]]
) -> None:
    made = train(trainer(), "ann", tmp_path / "cache")
    for file in (TENSORS, FACTS):
        (HEADGAS.models / "ann" / file).write_bytes(made.store.get(f"aa/{'a' * 64}/{file}"))
    spoil_frames(project, "cid", [row for row in range(FRAMES) if row not in HELD_OUT])
    decoded.clear()
    shown = Cache(str(tmp_path / "pair")).writer("b" * 64)
    with opened_below(HEADGAS.models) as models:
        summary = JudgeAvatar(HEADGAS, EVALUATE)(Item("ann<cid", "0"), None, shown)
    assert summary["frames"] == len(HELD_OUT) and "video.mp4" in shown.files
    assert decoded == {("cid", row) for row in HELD_OUT}
    assert models == {f"ann/{TENSORS}", f"ann/{FACTS}"}
