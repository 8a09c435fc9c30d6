"""NeRSemble, version 2: sixteen cameras film each participant; a clip is what one camera saw of one sequence.

    {participant:03d}/sequences/{SEQUENCE}/images/cam_{serial}.mp4
    {participant:03d}/calibration/camera_params.json     {"world_2_cam": {serial: 4 x 4}, "intrinsics": 3 x 3}

`world_2_cam` is OpenCV's, from a world that all cameras of a participant share, in metres. One K is for all cameras, in pixels
of the full picture of 2200 x 3208. The sequence BACKGROUND holds pictures of the empty stage and is passed over.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from avatar_models.cameras import Camera
from pipelines.formats.fields import FormatError, array, present, read_json, rigid
from pipelines.sources import KnownCamera, Listing, SourceError, VideoClip, safe_name

WIDTH, HEIGHT = 2200, 3208
"""Pixels of the full picture, for which the calibration is meant where it names no other."""
BACKGROUND = "BACKGROUND"
PARTICIPANT, CAMERA = re.compile(r"^\d{3,}$"), re.compile(r"^cam_(?P<serial>\d+)$")
CALIBRATION = Path("calibration/camera_params.json")


def list_nersemble(folder: Path) -> Listing:
    """A clip for each camera and sequence, sorted; its subject is the participant, its camera the serial number.

    A clip's camera is known where the participant's calibration has it; the listing's remarks say where it has not. What is no
    participant, no sequence or no camera's video is listed as ignored. Raises SourceError where there is no clip.
    """
    if not folder.is_dir():
        raise SourceError(f"source.path {folder}: no such folder; it should hold NeRSemble's participants: 017/, 018/, ...")
    clips: list[VideoClip] = []
    ignored: list[tuple[str, str]] = []
    remarks: list[str] = []
    for participant in sorted(folder.iterdir()):
        if not participant.is_dir() or not PARTICIPANT.match(participant.name):
            if participant.is_dir():
                ignored.append((str(participant), "not a participant by its name, which is a number such as 018"))
            continue
        sequences = participant / "sequences"
        if not sequences.is_dir():
            ignored.append((str(participant), "a participant without a folder sequences/"))
            continue
        found: list[VideoClip] = []
        for sequence in sorted(path for path in sequences.iterdir() if path.is_dir() and path.name != BACKGROUND):
            images = sequence / "images"
            if not images.is_dir():
                ignored.append((str(sequence), "a sequence without a folder images/"))
                continue
            for video in sorted(images.iterdir()):
                serial = CAMERA.match(video.stem)
                if video.suffix != ".mp4" or serial is None:
                    ignored.append((str(video), "not a camera's video by its name, which is cam_{serial}.mp4"))
                    continue
                name = f"{participant.name}-{sequence.name}-{serial['serial']}".replace("+", "_")
                found.append(VideoClip(safe_name(name), participant.name, serial["serial"], video, sequence=sequence.name))
        clips += with_cameras(participant, found, remarks)
    if not clips:
        raise SourceError(
            f"source.path {folder}: holds no {{participant:03d}}/sequences/{{SEQUENCE}}/images/cam_{{serial}}.mp4"
            + (f"; {ignored[0][0]} is {ignored[0][1]}" if ignored else "")
        )
    return Listing(clips, ignored, remarks=remarks)


def with_cameras(participant: Path, clips: list[VideoClip], remarks: list[str]) -> list[VideoClip]:
    """A participant's clips with their cameras, where the calibration has them; `remarks` gets a sentence where it has not."""
    if not clips:
        return []
    try:
        calibration = read_calibration(participant)
    except SourceError as error:
        remarks.append(f"{error}: the cameras of {participant.name} are fitted each by itself")
        return clips
    missing = sorted({clip.camera_id for clip in clips} - calibration.viewmats.keys())
    if missing:
        remarks.append(f"{calibration.path}: has no camera {', '.join(missing)}: clips of these are fitted by themselves")
    return [
        clip if clip.camera_id in missing else replace(clip, known_camera=calibration.known(clip.camera_id)) for clip in clips
    ]


@dataclass(frozen=True)
class Calibration:
    """The cameras of one participant."""

    path: Path
    K: NDArray[np.float64]  # (3, 3) pixels of the full picture, of all cameras
    width: int  # of the full picture
    height: int
    viewmats: dict[str, NDArray[np.float64]]  # serial -> (4, 4) the participant's world to camera, OpenCV, metres

    def known(self, serial: str) -> KnownCamera:
        """One camera for the full picture. Raises SourceError for an unknown serial."""
        if serial not in self.viewmats:
            raise SourceError(f"{self.path}: no camera {serial!r}; it has {', '.join(sorted(self.viewmats))}")
        K, viewmat = (tuple(matrix.ravel().tolist()) for matrix in (self.K, self.viewmats[serial]))
        return KnownCamera(K, viewmat, self.width, self.height)

    def camera(self, serial: str, width: int | None = None, height: int | None = None) -> Camera:
        """One camera (B = 1, float64) for the full picture, or for one resized to width x height.

        Raises SourceError for an unknown serial and for a size of another shape.
        """
        known = self.known(serial)
        try:
            known = known.resized(width or self.width, height or self.height)
        except ValueError as error:
            raise SourceError(f"{self.path}: {error}") from None
        K, viewmat = (torch.tensor(values, dtype=torch.float64) for values in (known.K, known.viewmat))
        return Camera(K.reshape(1, 3, 3), viewmat.reshape(1, 4, 4), known.width, known.height)


def read_calibration(participant: Path) -> Calibration:
    """The calibration in a participant's folder. Raises SourceError that names what is wrong with it."""
    path = participant / CALIBRATION
    try:
        found = read_json(path)
        K = array(str(path), found, "intrinsics", (3, 3))
        if K[0, 0] <= 0 or K[1, 1] <= 0 or np.abs(K[2] - [0, 0, 1]).max() > 1e-9 or abs(K[1, 0]) > 1e-9:
            raise FormatError(f"{path}: 'intrinsics' = {K.tolist()} is not fx 0 cx, 0 fy cy, 0 0 1")
        cameras = present(str(path), found, "world_2_cam")
        if not isinstance(cameras, dict) or not cameras:
            raise FormatError(f"{path}: 'world_2_cam' holds no camera; an object of serial: 4 x 4 was expected")
        views = {serial: rigid(f"{path}: world_2_cam", cameras, serial) for serial in cameras}
        width, height = (_side(path, found, key, default) for key, default in (("width", WIDTH), ("height", HEIGHT)))
    except FormatError as error:
        raise SourceError(str(error)) from None
    return Calibration(path, K, width, height, views)


def _side(path: Path, found: dict[str, Any], key: str, default: int) -> int:
    value = found.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        raise FormatError(f"{path}: {key!r} = {value!r}, a number of pixels was expected")
    return value
