"""INSTA's layout as a source: its pictures become clips, and this project tracks them itself.

    images/00000.png          the subject's pictures, RGBA or RGB, 25 a second
    transforms.json           {"frames": [{"file_path": "images/00000.png"}, ...]}
    transforms_test.json      the frames that are held out, at the end; may be absent

Of the transforms only `file_path` is read: cameras, coefficients and meshes are another tracker's, and all avatars of a
project are of one head. Nor is the alpha: mattes are made anew. :func:`pipelines.formats.insta.read_insta` gives those values.
"""

from __future__ import annotations

from pathlib import Path

from pipelines.formats.fields import FormatError, frame_list, read_json
from pipelines.formats.insta import picture_path
from pipelines.pictures import numbered_pictures
from pipelines.sources import (
    Listing,
    SourceError,
    VideoClip,
    list_subject_folders,
    remarks_between,
    subject_name,
    train_and_test,
)
from pipelines.video_facts import ProbeError

TRANSFORMS, TEST, PICTURES = "transforms.json", "transforms_test.json", "images"


def list_insta(folder: Path) -> Listing:
    """Each subject's two clips, train and test, or one where nothing is held out; `folder` is a subject's, or holds subjects'.

    A subject that cannot be read is listed as refused with the reason. Raises SourceError where none is left.
    """
    return list_subject_folders(folder, TRANSFORMS, _subject)


def _subject(folder: Path) -> Listing:
    """One subject's clips, and what is to be said of them. Raises SourceError."""
    pictures, name = folder / PICTURES, subject_name(folder)
    try:
        if not pictures.is_dir():
            raise FormatError(f"{folder}: no folder {PICTURES} in it, where INSTA has the pictures")
        places = {path: place for place, (_, path) in enumerate(numbered_pictures(pictures))}
        all_frames = _frames(folder, TRANSFORMS, places)
        held_out = _frames(folder, TEST, places) if (folder / TEST).exists() else []
    except (FormatError, ProbeError) as error:
        raise SourceError(f"{pictures}: {error}" if isinstance(error, ProbeError) else str(error)) from None
    named = [*all_frames, *held_out]
    first, end, remarks = min(all_frames), max(named) + 1, remarks_between(pictures, TRANSFORMS, named)
    if not held_out:
        return Listing([VideoClip(name, name, "cam0", pictures, first, end)], remarks=remarks)
    border = min(held_out)
    between = sorted(set(all_frames) - set(held_out) - set(range(border)))
    if between or border <= first:
        what = (
            f"{len(between)} frames for training lie behind its first"
            if between
            else "none is left to train on before its first"
        )
        raise SourceError(
            f"{folder / TEST}: the frames for testing are to be the last ones, but {what}. Take the file away: then the last "
            "catalog.test_fraction is held out"
        )
    return Listing(train_and_test(name, pictures, first, border, end), remarks=remarks)


def _frames(folder: Path, file: str, places: dict[Path, int]) -> list[int]:
    """The places among the folder's pictures that a transforms file names. Raises FormatError."""
    path = folder / file
    wanted = [
        picture_path(folder, f"{path}: frame {index}", frame) for index, frame in enumerate(frame_list(path, read_json(path)))
    ]
    outside = [picture for picture in wanted if picture.parent != folder / PICTURES]
    if outside:
        raise FormatError(f"{path}: 'file_path' names {outside[0]}; pictures are expected in {folder / PICTURES}")
    missing = [picture for picture in wanted if picture not in places]
    if missing:
        raise FormatError(
            f"{missing[0]}: no such picture, though {path} names it ({len(missing)} of {len(wanted)} are missing); "
            "put them there, or take these frames out of the file"
        )
    return [places[picture] for picture in wanted]
