"""The one way the project writes a file: all of it or none, under its name.

A reader never sees half a file, and a full disk is told as what it is. Files are not forced to the disk one by one (that
would take a third of the time of 15,000 small items): after a power cut a file may be cut short, and every reader that
matters would notice, since the cache checks digests, DVC checks its outs, and a broken checkpoint is started over.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT)
"""What the system says when there is no room: on the disk, or within the user's quota."""


TEMPORARY = ".*.tmp"
"""Names of files that are being written; a writer that is killed leaves one."""


class DiskFull(RuntimeError):
    """There was no room for a file. The run stops: nothing finished is lost, and it resumes once there is room."""

    @classmethod
    def at(cls, path: Path, needed: int | None) -> DiskFull:
        """For a file that could not be written; `needed` bytes where that is known."""
        folder = next(folder for folder in path.absolute().parents if folder.is_dir())
        free, room = shutil.disk_usage(folder).free, os.statvfs(folder)
        if room.f_files and not room.f_favail:
            return cls(
                f"{path}: the disk has no room for another file (no free inodes, though {free / 1e6:.1f} MB are free). "
                "Finished results are kept: remove files there, or point compute.cache in params.yaml at another disk, "
                "and run `dvc repro` again."
            )
        need = "" if needed is None else f", {needed / 1e6:.1f} MB needed for this file"
        return cls(
            f"{path}: the disk is full ({free / 1e6:.1f} MB free{need}). Finished results are kept: make room there, "
            "or point compute.cache in params.yaml at a larger disk, and run `dvc repro` again."
        )


def full_disk_behind(error: BaseException | None) -> DiskFull | None:
    """The full disk that an error comes from. Libraries in Rust and C++ keep the words but lose the number."""
    while error is not None:
        if isinstance(error, DiskFull):
            return error
        number = error.errno if isinstance(error, OSError) else None
        if number in FULL or "No space left on device" in str(error):
            name = getattr(error, "filename", None)
            return DiskFull.at(Path(name if isinstance(name, str) else Path.cwd() / "a file of the worker"), None)
        error = error.__cause__ or error.__context__
    return None


@contextmanager
def atomic_path(path: Path, size_hint: int | None = None) -> Iterator[Path]:
    """Yields a temporary path beside `path`; renames it there on success, removes it on any error.

    Raises DiskFull where there is no room; its message names `size_hint`, the bytes that are about to be written.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        if error.errno not in FULL:
            raise
        temporary.unlink(missing_ok=True)
        raise DiskFull.at(path, size_hint) from None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yields a new folder beside `path`; renames it there on success, removes it with all that is in it on any error.

    Raises FileExistsError where `path` is a file or a folder that is not empty, DiskFull where there is no room.
    """
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        if error.errno not in FULL:
            raise
        shutil.rmtree(temporary, ignore_errors=True)
        raise DiskFull.at(path, None) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_bytes_atomic(path: Path, data: bytes | memoryview) -> str:
    """Writes data under path, all or nothing; returns its sha256."""
    with atomic_path(path, len(data)) as temporary:
        temporary.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """sha256 of a file's bytes, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
