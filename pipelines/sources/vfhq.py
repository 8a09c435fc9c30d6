"""VFHQ's own layout: `videos/` with full-length source videos, `meta_info/` with a text file per clip.

A clip is named `Clip+{video}+P{person}+C{clip}+F{start}-{end}.txt`; its lines H, W, FPS and CROP give the picture size that
the crop box is meant for, and the rate that the frame numbers count in. Frames start + 1 to end - 1 belong to the clip.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

from pipelines.sources import Listing, SourceError, VideoClip, safe_name
from pipelines.sources.folder import VIDEO_SUFFIXES

NAME = re.compile(r"^Clip\+(?P<video>[^+]+)\+P(?P<person>\d+)\+C(?P<clip>\d+)\+F(?P<start>\d+)-(?P<end>\d+)$")


class MetaError(ValueError):
    """A meta file does not say what it should."""


def list_vfhq(folder: Path) -> Listing:
    """The clips of a VFHQ folder, sorted. A video that is missing is found out when the clip is opened.

    A person of one video is a subject. Meta files that cannot be read are listed as refused with the reason.
    """
    metas, videos = folder / "meta_info", folder / "videos"
    for needed in (metas, videos):
        if not needed.is_dir():
            raise SourceError(f"source.path {folder}: no folder {needed.name}/ in it; VFHQ's layout has videos/ and meta_info/")
    paths = {path.stem: path for path in sorted(videos.iterdir()) if path.suffix.lower() in VIDEO_SUFFIXES}
    clips, refused = [], []
    for meta in sorted(metas.glob("*.txt")):
        try:
            clips.append(read_meta(meta, paths, videos))
        except MetaError as error:
            refused.append((str(meta), str(error)))
    if not clips:
        raise SourceError(f"source.path {folder}: meta_info/ holds no clip that can be read ({len(refused)} files refused)")
    return Listing(clips, refused=refused)


def read_meta(meta: Path, paths: dict[str, Path], videos: Path) -> VideoClip:
    """One clip from its meta file. Raises MetaError."""
    name = NAME.match(meta.stem)
    if name is None:
        raise MetaError("its name is not Clip+{video}+P{n}+C{n}+F{start}-{end}.txt")
    try:
        lines = meta.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise MetaError(f"cannot be read: {error.strerror}") from None
    words = {key: next((line.split() for line in lines if line.startswith(key)), None) for key in ("H", "W", "FPS", "CROP")}
    missing = [key for key, found in words.items() if found is None]
    if missing:
        raise MetaError(f"has no line {', '.join(missing)}")
    try:
        height, width, fps = int(words["H"][-1]), int(words["W"][-1]), float(words["FPS"][-1])  # type: ignore[index]
        x0, y0, x1, y1 = (float(value) for value in words["CROP"][-4:])  # type: ignore[index]
    except ValueError as error:
        raise MetaError(f"holds a value that is no number: {error}") from None
    start, end = int(name["start"]) + 1, int(name["end"])  # the last frame is end - 1
    if not all(map(math.isfinite, (x0, y0, x1, y1, fps))) or not (
        x0 < x1 and y0 < y1 and fps > 0 and start < end and height > 0 and width > 0
    ):
        raise MetaError(f"says nothing that can be: CROP {x0:g} {y0:g} {x1:g} {y1:g}, FPS {fps:g}, frames {start} to {end}")
    path = paths.get(name["video"], videos / f"{name['video']}.mp4")
    subject = safe_name(f"{name['video']}-P{name['person']}")
    return VideoClip(safe_name(meta.stem), subject, "cam0", path, start, end, (x0, y0, x1, y1), (width, height), fps)
