"""NeRFBlendShape's layout: a folder for each subject, with numbered pictures and a transforms.json.

    ori_imgs/{img_id}.jpg     the pictures as filmed (beside them {img_id}.lms, which are not read)
    head_imgs/{img_id}.jpg    the same with the head cut out; taken where there is no ori_imgs
    transforms.json           h, w, fx, fy, cx, cy, frames: [{img_id, transform_matrix, exp_ori}]

`transform_matrix` is camera to world in OpenGL's axes (x right, y up, z backward), in a unit of its own; `exp_ori` are 46
coefficients, before which some files have a 1. Frames are sorted by img_id and the last 500 are for testing, as in the
authors' loader (test_start = -500): they are a clip of their own whose split is `test`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from avatar_models.cameras import Camera
from pipelines.formats.fields import FormatError, array, frame_list, number, present, read_json, rigid, shortly
from pipelines.pictures import numbered_pictures
from pipelines.sources import Listing, SourceError, list_subject_folders, remarks_between, subject_name, train_and_test
from pipelines.video_facts import ProbeError

TEST_FRAMES = 500
NUM_EXPRESSION = 46
TRANSFORMS, PICTURES = "transforms.json", ("ori_imgs", "head_imgs")
OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])


@dataclass(frozen=True)
class BlendShapeFrames:
    """A subject's frames, by rising img_id. N frames."""

    folder: Path
    pictures: Path  # the folder of numbered pictures
    images: list[Path]  # N of them
    places: NDArray[np.int64]  # (N,) of each frame among the folder's pictures
    ids: NDArray[np.int64]  # (N,) img_id
    K: NDArray[np.float64]  # (3, 3) pixels
    width: int
    height: int
    viewmat: NDArray[np.float64]  # (N, 4, 4) world to camera, OpenCV; lengths in the data set's own unit
    expression: NDArray[np.float64]  # (N, 46)

    @property
    def test_start(self) -> int:
        """The first of the last 500 frames, which are for testing."""
        return len(self.ids) - TEST_FRAMES

    @property
    def camera(self) -> Camera:
        """The N cameras."""
        K = torch.from_numpy(self.K).expand(len(self.ids), 3, 3)
        return Camera(K, torch.from_numpy(self.viewmat), self.width, self.height)


def list_nerfblendshape(folder: Path) -> Listing:
    """Two clips for each subject, train and test; `folder` is a subject's, or holds subjects' folders.

    A subject that cannot be read is listed as refused with the reason. Raises SourceError where none is left.
    """
    return list_subject_folders(folder, TRANSFORMS, lambda subject: _subject(read_nerfblendshape(subject)))


def _subject(found: BlendShapeFrames) -> Listing:
    start = found.test_start
    if start <= 0:
        raise SourceError(
            f"{found.folder / TRANSFORMS}: has {len(found.ids)} frames; the last {TEST_FRAMES} are for testing, so none "
            "is left to train on. Use source.kind folder for a video without that rule"
        )
    first, border, last = (int(found.places[row]) for row in (0, start, -1))
    clips = train_and_test(subject_name(found.folder), found.pictures, first, border, last + 1)
    return Listing(clips, remarks=remarks_between(found.pictures, TRANSFORMS, found.places.tolist()))


def read_nerfblendshape(folder: Path) -> BlendShapeFrames:
    """Reads a subject's transforms.json and finds its pictures; they are not opened. Raises SourceError."""
    path = folder / TRANSFORMS
    try:
        found = read_json(path)
        frames = sorted(_numbered(path, frame_list(path, found)), key=lambda pair: pair[0])
        ids = np.array([number for number, _ in frames], np.int64)
        if (np.diff(ids) == 0).any():
            raise FormatError(f"{path}: img_id {ids[:-1][np.diff(ids) == 0][0]} comes twice")
        focal = [number(str(path), found, key, positive=True) for key in ("fx", "fy")]
        K = np.array(
            [[focal[0], 0, number(str(path), found, "cx")], [0, focal[1], number(str(path), found, "cy")], [0, 0, 1.0]]
        )
        width, height = (int(number(str(path), found, key, positive=True)) for key in ("w", "h"))
        c2w = np.stack([rigid(f"{path}: img_id {name}", frame, "transform_matrix") for name, frame in frames])
        rows = [array(f"{path}: img_id {name}", frame, "exp_ori", (None,)) for name, frame in frames]
        expression = np.stack([_without_mean(path, name, row) for (name, _), row in zip(frames, rows, strict=True)])
        pictures = next((folder / name for name in PICTURES if (folder / name).is_dir()), None)
        if pictures is None:
            raise FormatError(f"{folder}: no folder {' nor '.join(PICTURES)} in it")
        there = {name: (place, file) for place, (name, file) in enumerate(numbered_pictures(pictures))}
        missing = [name for name, _ in frames if name not in there]
        if missing:
            raise FormatError(
                f"{pictures}: no picture {missing[0]}, which {path} names ({len(missing)} of {len(ids)} are missing)"
            )
    except (FormatError, ProbeError) as error:
        raise SourceError(f"{folder}: {error}" if isinstance(error, ProbeError) else str(error)) from None
    places = np.array([there[name][0] for name, _ in frames], np.int64)
    images = [there[name][1] for name, _ in frames]
    return BlendShapeFrames(folder, pictures, images, places, ids, K, width, height, OPENGL @ np.linalg.inv(c2w), expression)


def _numbered(path: Path, frames: list[dict[str, Any]]) -> list[tuple[int, dict[str, Any]]]:
    found = []
    for index, frame in enumerate(frames):
        name = present(f"{path}: frame {index}", frame, "img_id")
        if isinstance(name, bool) or not (isinstance(name, int) or (isinstance(name, str) and name.isdecimal())):
            raise FormatError(f"{path}: frame {index}: 'img_id' = {shortly(name)}, a whole number was expected")
        found.append((int(name), frame))
    return found


def _without_mean(path: Path, name: int, row: NDArray[np.float64]) -> NDArray[np.float64]:
    if len(row) == NUM_EXPRESSION + 1 and row[0] == 1.0:
        return row[1:]
    if len(row) != NUM_EXPRESSION:
        raise FormatError(f"{path}: img_id {name}: 'exp_ori' has {len(row)} coefficients, {NUM_EXPRESSION} were expected")
    return row
