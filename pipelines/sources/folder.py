"""A folder of videos: one subject per file, or per sub-folder. Any container that FFmpeg reads."""

from __future__ import annotations

import os
from pathlib import Path

from pipelines.sources import Listing, SourceError, VideoClip, safe_name

VIDEO_SUFFIXES = frozenset(
    f".{ending}"
    for ending in (
        "mp4", "m4v", "mov", "mkv", "webm", "avi", "mpg", "mpeg", "m2v", "ts", "mts", "m2ts", "wmv", "asf", "flv", "f4v", "3gp",
        "3g2", "ogv", "ogm", "mxf", "dv", "vob", "y4m", "gif",
    )
)  # fmt: skip


def list_folder(folder: Path) -> Listing:
    """Every video below a folder, sorted; links to files are followed, links to folders are not (they may form a loop).

    Files of other kinds are listed as ignored, and so are hidden folders and those that cannot be read. Raises SourceError
    when there is no such folder or it holds no video.
    """
    if not folder.is_dir():
        raise SourceError(f"source.path {folder}: no such folder. Make it and put videos in: mkdir -p {folder}")
    clips: list[VideoClip] = []
    ignored: list[tuple[str, str]] = []

    def unreadable(error: OSError) -> None:
        ignored.append((str(error.filename), f"a folder that cannot be read: {error.strerror}"))

    for place, subfolders, names in os.walk(folder, followlinks=False, onerror=unreadable):
        if not subfolders and not names and Path(place).suffix.lower() in VIDEO_SUFFIXES:
            ignored.append((place, "an empty folder, not a video"))
        for name in sorted(subfolders):
            path = Path(place, name)
            if path.is_symlink():
                ignored.append((str(path), "a link to a folder is not followed"))
            elif name.startswith("."):
                ignored.append((str(path), "a hidden folder"))
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in sorted(names):
            path = Path(place, name)
            if name.startswith("._"):
                ignored.append((str(path), "a Mac's shadow file, not a video"))
                continue
            if path.suffix.lower() not in VIDEO_SUFFIXES:
                ignored.append((str(path), f"not a video by its ending {path.suffix or '(none)'}"))
                continue
            relative = path.relative_to(folder)
            clip_id = safe_name("-".join(relative.with_suffix("").parts))
            subject = relative.parts[0] if len(relative.parts) > 1 else relative.stem
            clips.append(VideoClip(clip_id, safe_name(subject), "cam0", path))
    if not clips:
        others = f" ({len(ignored)} other files)" if ignored else ""
        raise SourceError(
            f"source.path {folder}: holds no video{others}. Put mp4, mov, mkv, ... in, one person per file or sub-folder"
        )
    return Listing(_with_unique_ids(clips, folder), ignored)


def _with_unique_ids(clips: list[VideoClip], folder: Path) -> list[VideoClip]:
    """Clips whose ids collide (a.mp4 beside a.mkv) get a digest of their path; the others keep theirs."""
    from collections import Counter
    from dataclasses import replace

    count = Counter(clip.clip_id for clip in clips)
    subjects = Counter(clip.subject_id for clip in clips if clip.path.parent == folder)
    found = []
    for clip in clips:
        unique = safe_name(f"{clip.clip_id}/{clip.path.relative_to(folder)}") if count[clip.clip_id] > 1 else clip.clip_id
        alone = clip.path.parent == folder and subjects[clip.subject_id] > 1
        found.append(replace(clip, clip_id=unique, subject_id=unique if alone else clip.subject_id))
    return sorted(found, key=lambda clip: clip.clip_id)
