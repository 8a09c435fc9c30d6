"""The one way the project writes a file: all of it or none, under its name.

A reader never sees half a file, and a full disk is told as what it is.
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


class DiskFull(RuntimeError):
    """There was no room for a file. The run stops: nothing finished is lost, and it resumes once there is room."""

    def __init__(self, path: str, free: int | None, needed: int | None) -> None:
        super().__init__(path, free, needed)
        self.path, self.free, self.needed = path, free, needed

    def __str__(self) -> str:
        need = "" if self.needed is None else f", at least {self.needed / 1e6:.1f} MB are needed"
        free = "" if self.free is None else f" ({self.free / 1e6:.1f} MB free{need})"
        return (
            f"{self.path}: the disk is full{free}. Finished results are kept: make room there, "
            "or point compute.cache in params.yaml at a larger disk, and run `dvc repro` again."
        )


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`; renames it there on success, removes it on any error.

    The file is flushed to disk before the rename, so that a crash of the machine leaves the old file or the new one.
    Raises DiskFull where there is no room.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        needed = temporary.stat().st_size if temporary.exists() else None
        temporary.unlink(missing_ok=True)
        raise DiskFull(str(path), shutil.disk_usage(path.parent).free, needed) from None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_bytes_atomic(path: Path, data: bytes) -> str:
    """Writes data under path, all or nothing; returns its sha256."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """sha256 of a file's bytes, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
