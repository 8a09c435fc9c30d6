"""Sources of clips behind one interface: `list_clips(source) -> Listing`."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pipelines.params import Source


class SourceError(ValueError):
    """The source as a whole cannot be read; the message names the path and the way out."""


@dataclass(frozen=True)
class VideoClip:
    """A stretch of a video that shows one subject."""

    clip_id: str
    subject_id: str
    camera_id: str
    path: Path  # a video, or a folder of numbered pictures (pipelines/pictures.py)
    frame_start: int = 0  # in the source's own count
    frame_end: int | None = None  # one past the last; None is the video's end
    crop: tuple[float, float, float, float] | None = None  # x0 y0 x1 y1: faces are searched inside
    crop_size: tuple[int, int] | None = None  # width, height of the picture that crop is given for
    fps_claimed: float | None = None  # the rate that frame_start and frame_end count in
    split: Literal["train", "test"] = "train"  # of a test clip all frames are held out


@dataclass(frozen=True)
class Listing:
    """What a source holds: clips, entries that are none, and entries that were meant to be one; each with the reason why."""

    clips: list[VideoClip]
    ignored: list[tuple[str, str]] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)


def list_clips(source: Source) -> Listing:
    """Lists a source. Raises SourceError where there is none."""
    from pipelines.sources.folder import list_folder
    from pipelines.sources.nerfblendshape import list_nerfblendshape
    from pipelines.sources.nersemble import list_nersemble
    from pipelines.sources.procedural import list_people
    from pipelines.sources.vfhq import list_vfhq

    readers: dict[str, Callable[[Path], Listing]] = {
        "folder": list_folder,
        "vfhq": list_vfhq,
        "procedural": list_people,
        "nersemble": list_nersemble,
        "nerfblendshape": list_nerfblendshape,
    }
    return readers[source.kind](Path(source.path))


def safe_name(name: str) -> str:
    """A name of [A-Za-z0-9._-] that cannot leave a folder nor be that of a table in it.

    Where characters had to go, a short digest keeps it unique.
    """
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("._-").removesuffix(".parquet")[:80]
    return (
        plain if plain == name else f"{plain or 'clip'}-{hashlib.sha256(name.encode(errors='surrogateescape')).hexdigest()[:8]}"
    )
