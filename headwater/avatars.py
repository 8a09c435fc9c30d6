"""Opening an avatar that somebody named, and telling which ones there are when it is none."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

from avatar_models.avatar import COMPRESSED_TENSORS, FACTS, TENSORS, Avatar, AvatarError, load_avatar, read_facts
from pipelines.methods import HEADGAS, NPGA


def open_avatar(folder: Path, device: str = "cpu") -> tuple[Avatar, dict[str, Any]]:
    """An avatar, on a device, and its facts. Raises AvatarError; of a folder that is none, with those that there are."""
    expect_avatar(folder)
    return load_avatar(folder, device)


def avatar_facts(folder: Path) -> dict[str, Any]:
    """An avatar's facts alone. Raises what :func:`open_avatar` does, but for tensors that are damaged."""
    expect_avatar(folder)
    return read_facts(folder)


def expect_avatar(folder: Path) -> None:
    """Raises AvatarError for a folder that is none, with those that there are."""
    has_tensors = any((folder / name).is_file() for name in (TENSORS, COMPRESSED_TENSORS))
    if not has_tensors or not (folder / FACTS).is_file():
        missing = TENSORS if (folder / FACTS).is_file() else FACTS
        raise AvatarError(f"{folder}: not an avatar, {missing} is missing. {what_there_is(folder)}")


def what_there_is(wanted: Path) -> str:
    """The avatars beside the one that was wanted and in this project, or why there is none, as a sentence."""
    places = {place.resolve(): place for place in (wanted.parent, HEADGAS.models, NPGA.models)}
    there = [place / path.parent.name for place in places.values() for path in sorted(place.glob(f"*/{TENSORS}*"))]
    if not there:
        return (
            "There is none: training has not finished, or nobody could be trained on. `headwater status` tells which, and "
            "`dvc repro` goes on with it"
        )
    near = difflib.get_close_matches(wanted.name, [path.name for path in there], n=1)
    meant = f"Did you mean {next(path for path in there if path.name == near[0])}? " if near else ""
    return f"{meant}There are: {', '.join(map(str, there))}"
