"""The cache keeps its promise on a folder and on an object store."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.fs
import pytest

from pipelines.atomic import atomic_path, write_bytes_atomic
from pipelines.cache import Cache, DamagedEntry, Entry, Failure, ObjectStore
from pipelines.keys import content_key

KEY = content_key(step="s", version=1, params={"b": 2, "a": [1.5]}, assets={}, inputs="x")


@pytest.fixture(params=["folder", "objects"])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> Cache:
    made = Cache(str(tmp_path / "cache"))
    if request.param == "objects":  # the object-store code on pyarrow's own local file system
        made.store = ObjectStore(pa.fs.SubTreeFileSystem(str(tmp_path), pa.fs.LocalFileSystem()), "bucket")
    return made


def test_an_entry_is_there_when_it_is_committed(cache: Cache) -> None:
    writer = cache.writer(KEY)
    writer.write_bytes("a", b"alpha")
    writer.write_table("t", pa.table({"x": [1, 2]}))
    assert cache.find(KEY) is None
    writer.commit({"n": 2}, seconds=0.5)
    entry = cache.find(KEY)
    assert isinstance(entry, Entry)
    assert (entry.read_bytes("a"), entry.read_table("t")["x"].to_pylist(), entry.summary) == (b"alpha", [1, 2], {"n": 2})


def test_damage_is_told_when_a_file_is_read(cache: Cache) -> None:
    writer = cache.writer(KEY)
    writer.write_bytes("a", b"alpha")
    writer.commit({}, 0.0)
    cache.store.put(f"{KEY[:2]}/{KEY}/a", b"alphA")
    entry = cache.find(KEY)
    assert isinstance(entry, Entry)  # the size is right; the digest is checked on reading
    with pytest.raises(DamagedEntry, match="a is damaged"):
        entry.read_bytes("a")


def test_failures_are_remembered_and_forgotten(cache: Cache) -> None:
    failure = Failure("stage", "clip", 3, "crashed", "WorkerDied", "died", "")
    cache.remember_failure(KEY, failure)
    assert cache.find(KEY) == failure
    cache.forget(KEY)
    assert cache.find(KEY) is None


def test_what_is_kept_outlives_the_writer_and_goes_with_the_commit(cache: Cache) -> None:
    cache.writer(KEY).keep("checkpoint", b"half way")
    writer = cache.writer(KEY)
    assert writer.kept("checkpoint") == b"half way" and writer.kept("another") is None
    writer.commit({}, 0.0)
    assert cache.writer(KEY).kept("checkpoint") is None


def test_what_a_killed_writer_left_goes_with_the_next_commit(tmp_path: Path) -> None:
    cache = Cache(str(tmp_path))
    left = tmp_path / KEY[:2] / KEY / ".a.0123.tmp"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"al")
    young = left.with_name(".a.4567.tmp")
    young.write_bytes(b"alp")
    os.utime(left, (0, 0))
    writer = cache.writer(KEY)
    writer.write_bytes("a", b"alpha")
    writer.commit({}, 0.0)
    assert not left.exists() and young.exists() and isinstance(cache.find(KEY), Entry)


def test_keys_depend_on_all_that_matters_and_on_no_order() -> None:
    same = content_key(step="s", version=1, params={"a": [1.5], "b": 2}, assets={}, inputs="x")
    assert same == KEY
    others = [
        content_key(step="t", version=1, params={"a": [1.5], "b": 2}, assets={}, inputs="x"),
        content_key(step="s", version=2, params={"a": [1.5], "b": 2}, assets={}, inputs="x"),
        content_key(step="s", version=1, params={"a": [1.5], "b": 3}, assets={}, inputs="x"),
        content_key(step="s", version=1, params={"a": [1.5], "b": 2}, assets={"head": "1"}, inputs="x"),
        content_key(step="s", version=1, params={"a": [1.5], "b": 2}, assets={}, inputs="y"),
    ]
    assert len({KEY, *others}) == 6


def test_a_write_that_fails_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_bytes_atomic(path, b"old")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_bytes(b"half")
        raise RuntimeError
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
