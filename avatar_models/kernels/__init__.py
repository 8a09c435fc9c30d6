"""The CPU kernels of splatting, image losses and blending, in numba: arrays in, arrays out, no torch.

Numba's own cache cannot see that a function called from another file has changed, so the folder that compiled kernels
are kept in carries a digest of all sources of this package. The first use on a machine compiles what it needs.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numba


def cache_folder() -> Path:
    """Where compiled kernels of just these sources are kept: NUMBA_CACHE_DIR, the user's cache folder, or a temporary one."""
    digest = hashlib.sha256(numba.__version__.encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    home = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    first = os.environ.get("NUMBA_CACHE_DIR") or Path(home) / "headwater"
    # A container or a batch node may have no home that can be written.
    for base in (Path(first), Path(tempfile.gettempdir()) / f"headwater-{os.getuid() if hasattr(os, 'getuid') else 'kernels'}"):
        folder = base / f"kernels-{digest.hexdigest()[:16]}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK):
            return folder
    return folder


@contextmanager
def _cached_in(folder: Path) -> Iterator[None]:
    """Has the kernels that are defined inside cached in a folder; other users of numba in the process are left alone."""
    before = numba.config.CACHE_DIR
    try:
        numba.config.CACHE_DIR = str(folder)
        yield
    finally:
        numba.config.CACHE_DIR = before


_FOLDER = cache_folder()
with _cached_in(_FOLDER):
    from avatar_models.kernels import (
        blending,
        compositing,
        features,
        fitting,
        harmonics,
        headgas,
        lists,
        nphm,
        projection,
        ssim,
        tiles,
    )

__all__ = [
    "announce", "blending", "compositing", "features", "fitting", "harmonics", "headgas", "lists", "nphm",
    "projection", "ssim", "tiles",
]  # fmt: skip


@cache
def announce() -> None:
    """Says, once a process, that kernels are about to be compiled, where none of these sources are there yet."""
    if not any(_FOLDER.glob("**/*.nbi")):
        print("Compiling the CPU kernels, once on this machine (up to a minute)...", file=sys.stderr, flush=True)
