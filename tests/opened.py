"""Which files are opened, by whatever library: the kernel tells (inotify)."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

IN_OPEN, IN_ISDIR = 0x20, 0x40000000
EVENT = struct.Struct("iIII")


@contextmanager
def opened_below(folder: Path) -> Iterator[set[str]]:
    """Fills a set with the files below `folder`, by their path from there, that are opened in the block by anybody."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "inotify_init1"):
        pytest.skip("inotify tells which files are opened, and this system has none")
    queue = libc.inotify_init1(os.O_NONBLOCK)
    places = {}
    for place in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
        places[libc.inotify_add_watch(queue, os.fsencode(place), IN_OPEN)] = place.relative_to(folder)
    assert min(queue, *places) >= 0, os.strerror(ctypes.get_errno())
    found: set[str] = set()
    try:
        yield found
        data = os.read(queue, 2**20)
        while data:
            watch, mask, _, length = EVENT.unpack_from(data)
            name = data[EVENT.size : EVENT.size + length].rstrip(b"\0").decode()
            if not mask & IN_ISDIR:
                found.add(str(places[watch] / name))
            data = data[EVENT.size + length :]
    except BlockingIOError:  # nothing was opened
        pass
    finally:
        os.close(queue)
