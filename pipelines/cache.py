"""Finished work by content: an entry is a few files and a manifest under the key of what they depend on.

The files are written first and the manifest last, each atomically, so an entry is there when its manifest is. That
holds on a file system (rename) and on an object store (a put is seen whole or not at all) alike; two workers that make
the same entry write the same bytes. The manifest has the size and sha256 of every file and of itself: a file cut
short, a flipped byte or a broken manifest is noticed, and the entry counts as absent and is made again. Sizes are
checked when an entry is looked up, digests whenever a file is read.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.fs

from pipelines.atomic import FULL, TEMPORARY, write_bytes_atomic
from pipelines.keys import digest
from pipelines.news import News

log = logging.getLogger(__name__)
ABANDONED_S = 3600.0
"""A file that has been written to for the last time so long ago has no writer any more."""
UNFINISHED = "scratch"
"""The folder in a cache with what is kept of entries that are being made."""


class DamagedEntry(RuntimeError):
    """A cached file is not what its manifest says."""

    def __init__(self, key: str, name: str, what: str) -> None:
        super().__init__(key, name, what)
        self.key, self.name, self.what = key, name, what

    def __str__(self) -> str:
        return f"cache entry {self.key[:12]}: {self.name} is damaged ({self.what}); it is made again"


class CacheUnusable(RuntimeError):
    """The place of the cache cannot be read or written at all: no right to it, a read-only disk, a store that does not
    answer. No item is to blame, so the run stops."""


@dataclass(frozen=True)
class Failure:
    """An item that a step could not do, and why."""

    stage: str
    item: str
    attempts: int
    reason: str  # one word with underscores
    error_class: str
    message: str
    traceback: str


class Store(Protocol):
    """Named byte strings, each written whole or not at all."""

    def put(self, name: str, data: bytes) -> None: ...

    def get(self, name: str) -> bytes:
        """Raises FileNotFoundError."""
        ...

    def size(self, name: str) -> int | None:
        """Bytes, or None where there is none of that name."""
        ...

    def remove(self, name: str) -> None:
        """Removes one; none of that name is no error."""
        ...

    def remove_folder(self, name: str) -> None: ...

    def remove_unfinished(self, name: str) -> None:
        """Removes what writers that were killed have left in a folder."""
        ...

    def local_path(self, name: str) -> Path | None:
        """Where the bytes lie on this machine, if they do."""
        ...


class FolderStore:
    """A folder, on this machine or a shared file system."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, name: str, data: bytes) -> None:
        with _usable(str(self.root / name)):
            write_bytes_atomic(self.root / name, data)

    def get(self, name: str) -> bytes:
        with _usable(str(self.root / name)):
            return (self.root / name).read_bytes()

    def size(self, name: str) -> int | None:
        try:
            with _usable(str(self.root / name)):
                return (self.root / name).stat().st_size
        except FileNotFoundError:
            return None

    def remove(self, name: str) -> None:
        (self.root / name).unlink(missing_ok=True)

    def remove_folder(self, name: str) -> None:
        shutil.rmtree(self.root / name, ignore_errors=True)

    def remove_unfinished(self, name: str) -> None:
        for path in (self.root / name).glob(TEMPORARY):
            with suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > ABANDONED_S:  # a younger one may be another run's, at work now
                    path.unlink()

    def local_path(self, name: str) -> Path | None:
        return self.root / name


class ObjectStore:
    """An object store, through pyarrow's file systems (s3://, gs://, ...)."""

    def __init__(self, filesystem: pa.fs.FileSystem, root: str) -> None:
        self.filesystem, self.root = filesystem, root.rstrip("/")

    def put(self, name: str, data: bytes) -> None:
        path = f"{self.root}/{name}"
        with _usable(path):
            self.filesystem.create_dir(path.rsplit("/", 1)[0], recursive=True)
            with self.filesystem.open_output_stream(path) as stream:
                stream.write(data)

    def get(self, name: str) -> bytes:
        with _usable(f"{self.root}/{name}"), self.filesystem.open_input_stream(f"{self.root}/{name}") as stream:
            return bytes(stream.read())

    def size(self, name: str) -> int | None:
        with _usable(f"{self.root}/{name}"):
            info = self.filesystem.get_file_info(f"{self.root}/{name}")
        return info.size if info.type == pa.fs.FileType.File else None

    def remove(self, name: str) -> None:
        if self.size(name) is not None:
            self.filesystem.delete_file(f"{self.root}/{name}")

    def remove_folder(self, name: str) -> None:
        if self.filesystem.get_file_info(f"{self.root}/{name}").type == pa.fs.FileType.Directory:
            self.filesystem.delete_dir(f"{self.root}/{name}")

    def remove_unfinished(self, name: str) -> None:
        pass  # an upload that was not finished has no name

    def local_path(self, name: str) -> Path | None:
        return None


def open_store(uri: str) -> Store:
    """A folder path or a URI that pyarrow knows."""
    if "://" in uri and not uri.startswith("file://"):
        try:
            return ObjectStore(*pa.fs.FileSystem.from_uri(uri))
        except (OSError, ValueError) as error:  # pyarrow's own errors are kinds of these
            raise CacheUnusable(_unusable(uri, error)) from None
    return FolderStore(Path(uri.removeprefix("file://")).resolve())


def absolute_uri(uri: str) -> str:
    """The place of a cache as a process in another folder can name it."""
    return uri if "://" in uri else os.path.abspath(uri)  # noqa: PTH100 (links stay as the user wrote them)


@contextmanager
def _usable(place: str) -> Iterator[None]:
    """Tells a place that cannot be used from a file that is not there, and from a full disk."""
    try:
        yield
    except (FileNotFoundError, IsADirectoryError):
        raise
    except OSError as error:
        if error.errno in FULL:
            raise
        raise CacheUnusable(_unusable(place, error)) from None


def _unusable(place: str, error: Exception) -> str:
    return (
        f"{place}: the cache cannot be used ({error}). Finished results are kept: mend access to it, or point "
        "compute.cache in params.yaml at a place that every worker may read and write, and run `dvc repro` again."
    )


@dataclass(frozen=True)
class Entry:
    """A finished result: a small JSON summary and files by name."""

    key: str
    store: Store
    summary: Mapping[str, Any]
    files: Mapping[str, Mapping[str, Any]]  # name -> {"sha256", "bytes"}
    seconds: float  # what it took to make

    def read_bytes(self, name: str) -> bytes:
        """The file's bytes, checked against the manifest. Raises DamagedEntry."""
        try:
            data = self.store.get(f"{_folder(self.key)}/{name}")
        except FileNotFoundError:
            raise DamagedEntry(self.key, name, "missing") from None
        self._check(name, hashlib.sha256(data).hexdigest())
        return data

    def read_table(self, name: str) -> pa.Table:
        """An Arrow table written by EntryWriter.write_table. Raises DamagedEntry."""
        return pa.ipc.open_file(pa.BufferReader(self.read_bytes(name))).read_all()

    def copy_to(self, name: str, target: Path) -> None:
        """Copies a file out, checked against the manifest. Raises DamagedEntry, DiskFull."""
        write_bytes_atomic(target, self.read_bytes(name))

    def _check(self, name: str, found: str) -> None:
        if found != self.files[name]["sha256"]:
            raise DamagedEntry(self.key, name, f"sha256 {found[:12]} in place of {self.files[name]['sha256'][:12]}")


class EntryWriter:
    """Collects the files of an entry; nothing is seen by readers before commit. `news` are what is told meanwhile."""

    def __init__(self, store: Store, key: str, scratch: Path) -> None:
        self.store, self.key, self._scratch = store, key, scratch
        self.news = News()
        self.files: dict[str, dict[str, Any]] = {}

    @property
    def scratch(self) -> Path:
        """A folder on this machine that outlives a crash, for work that resumes here; removed when the entry is there."""
        self._scratch.mkdir(parents=True, exist_ok=True)
        return self._scratch

    def keep(self, name: str, data: bytes) -> None:
        """Keeps bytes for work that resumes on whichever machine; removed when the entry is there."""
        self.store.put(f"{unfinished(self.key)}/{name}", data)

    def kept(self, name: str) -> bytes | None:
        """What was kept under a name."""
        try:
            return self.store.get(f"{unfinished(self.key)}/{name}")
        except FileNotFoundError:
            return None

    def write_bytes(self, name: str, data: bytes) -> None:
        self.store.put(f"{_folder(self.key)}/{name}", data)
        self.files[name] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}

    def write_table(self, name: str, table: pa.Table) -> None:
        """Writes an Arrow table in the IPC file format, with its schema's metadata."""
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        self.write_bytes(name, sink.getvalue().to_pybytes())

    def write_file(self, name: str, path: Path) -> None:
        self.write_bytes(name, path.read_bytes())

    def discard(self) -> None:
        """Removes the files written so far, unless somebody else has finished the same entry meanwhile."""
        if self.store.size(_manifest(self.key)) is None:
            self.store.remove_folder(_folder(self.key))

    def commit(self, summary: Mapping[str, Any], seconds: float) -> None:
        body = {"summary": dict(summary), "files": self.files, "seconds": round(seconds, 4)}
        self.store.put(_manifest(self.key), _sealed(body))
        self.store.remove_unfinished(_folder(self.key))
        shutil.rmtree(self._scratch, ignore_errors=True)
        self.store.remove_folder(unfinished(self.key))


class Cache:
    """Entries and remembered failures by key, in a folder or an object store."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.store = open_store(uri)

    def find(self, key: str) -> Entry | Failure | None:
        """What is known of a key; a damaged entry counts as absent, with a warning."""
        try:
            body = _unsealed(self.store.get(_manifest(key)))
        except FileNotFoundError:
            return None
        except ValueError as error:
            log.warning("cache entry %s: its manifest is damaged (%s); it is made again", key[:12], error)
            return None
        if "failure" in body:
            return Failure(**body["failure"])
        for file, facts in body["files"].items():
            size = self.store.size(f"{_folder(key)}/{file}")
            if size != facts["bytes"]:
                log.warning("%s", DamagedEntry(key, file, f"{size} bytes in place of {facts['bytes']}"))
                return None
        return Entry(key, self.store, body["summary"], body["files"], body["seconds"])

    def writer(self, key: str) -> EntryWriter:
        local = self.store.local_path(unfinished(key))
        return EntryWriter(self.store, key, local if local is not None else Path(".headwater", unfinished(key)).resolve())

    def remember_failure(self, key: str, failure: Failure) -> None:
        """Scratch is kept: a retry with more time goes on from it."""
        self.store.put(_manifest(key), _sealed({"failure": asdict(failure)}))
        self.store.remove_folder(_folder(key))

    def forget(self, key: str) -> None:
        """Removes an entry or a failure."""
        self.store.remove(_manifest(key))
        self.store.remove_folder(_folder(key))


def unfinished(key: str) -> str:
    """The folder in the store for what is kept of an entry that is being made."""
    return f"{UNFINISHED}/{key}"


def _folder(key: str) -> str:
    return f"{key[:2]}/{key}"


def _manifest(key: str) -> str:
    """Beside the folder, not in it: an entry without files costs no folder."""
    return f"{key[:2]}/{key}.json"


def _sealed(body: Mapping[str, Any]) -> bytes:
    read_back = json.loads(json.dumps(body))  # what a reader will digest: JSON turns keys into strings, tuples into lists
    return json.dumps({"body": read_back, "sha256": digest(read_back)}, indent=1, sort_keys=True).encode()


def _unsealed(data: bytes) -> dict[str, Any]:
    sealed = json.loads(data)
    if not isinstance(sealed, dict) or digest(sealed.get("body")) != sealed.get("sha256"):
        raise ValueError("its digest does not match")
    body = sealed["body"]
    assert isinstance(body, dict)
    return body
