"""Sources of clips behind one interface: `list_clips(source) -> Listing`."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pipelines.params import Source


class SourceError(ValueError):
    """The source as a whole cannot be read; the message names the path and the way out."""


SAME_SHAPE = 0.01
"""Relative difference of width over height above which a picture is another view, not the full one resized."""


@dataclass(frozen=True)
class KnownCamera:
    """A calibrated camera. All cameras of a subject share one world."""

    K: tuple[float, ...]  # 3 x 3, row-major, pixels of a picture of width x height
    viewmat: tuple[float, ...]  # 4 x 4, row-major, world to camera, OpenCV, metres
    width: int
    height: int

    def resized(self, width: int, height: int) -> KnownCamera:
        """The camera of the same picture at another size. Raises ValueError for a size of another shape."""
        if abs(width * self.height / (height * self.width) - 1) > SAME_SHAPE:
            raise ValueError(f"is meant for {self.width} x {self.height}; {width} x {height} is not that picture resized")
        across, down = width / self.width, height / self.height
        factors = (across,) * 3 + (down,) * 3 + (1.0,) * 3
        K = tuple(value * factor for value, factor in zip(self.K, factors, strict=True))
        return KnownCamera(K, self.viewmat, width, height)


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
    sequence: str | None = None  # what was filmed, where several cameras filmed it at the same time
    known_camera: KnownCamera | None = None


@dataclass(frozen=True)
class Listing:
    """What a source holds: clips, entries that are none, and entries that were meant to be one; each with the reason why."""

    clips: list[VideoClip]
    ignored: list[tuple[str, str]] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    """What is amiss beside the clips, in sentences."""


def list_clips(source: Source) -> Listing:
    """Lists a source. Raises SourceError where there is none."""
    from pipelines.sources.folder import list_folder
    from pipelines.sources.insta import list_insta
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
        "insta": list_insta,
    }
    return readers[source.kind](Path(source.path))


def list_subject_folders(folder: Path, marker: str, subject_listing: Callable[[Path], Listing]) -> Listing:
    """The clips of a folder that holds a file `marker`, or of those of its folders that do.

    A subject whose reading raises SourceError, or whose name another has, is listed as refused. Raises SourceError where none
    is left.
    """
    if not folder.is_dir():
        raise SourceError(f"source.path {folder}: no such folder; it should hold {marker}, or folders that do")
    subjects = [folder] if (folder / marker).exists() else sorted(path.parent for path in folder.glob(f"*/{marker}"))
    clips: list[VideoClip] = []
    refused: list[tuple[str, str]] = []
    remarks: list[str] = []
    named: dict[str, Path] = {}
    for subject in subjects:
        try:
            name = subject_name(subject)
            if name in named:
                raise SourceError(f"{subject} and {named[name]}: are both the subject {name}; give one of them another name")
            own = subject_listing(subject)
        except SourceError as error:
            refused.append((str(subject), str(error)))
            continue
        named[name] = subject
        clips += own.clips
        remarks += own.remarks
    if not clips:
        why = f"{refused[0][1]} ({len(refused)} refused)" if refused else f"no {marker} in it, nor in its folders"
        raise SourceError(f"source.path {folder}: {why}")
    return Listing(clips, refused=refused, remarks=remarks)


def subject_name(folder: Path) -> str:
    """What a subject's folder is called where the user looks at it: a link's own name, not its target's."""
    return safe_name(folder.resolve().name if folder.name in ("", "..") else folder.name)


def remarks_between(pictures: Path, listed_in: str, places: Collection[int]) -> list[str]:
    """A sentence where a clip takes in pictures that a list of frames passes over: it is a stretch of its folder.

    `places` are those of the listed frames among the folder's pictures.
    """
    count = max(places) + 1 - min(places) - len(set(places))
    if not count:
        return []
    what = "1 picture lies" if count == 1 else f"{count} pictures lie"
    return [f"{pictures}: {what} between those that {listed_in} names and will be used too; move away what you do not want"]


def train_and_test(name: str, path: Path, first: int, border: int, end: int) -> list[VideoClip]:
    """A subject's frames [first, end) as two clips, of which the second, from `border` on, is held out."""
    return [
        VideoClip(f"{name}-train", name, "cam0", path, first, border),
        VideoClip(f"{name}-test", name, "cam0", path, border, end, split="test"),
    ]


def safe_name(name: str) -> str:
    """A name of [A-Za-z0-9._-] that cannot leave a folder nor be that of a table in it.

    Where characters had to go, a short digest keeps it unique.
    """
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("._-").removesuffix(".parquet")[:80]
    return (
        plain if plain == name else f"{plain or 'clip'}-{hashlib.sha256(name.encode(errors='surrogateescape')).hexdigest()[:8]}"
    )
