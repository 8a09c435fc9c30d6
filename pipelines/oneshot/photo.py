"""A photo of one person to that person's avatar."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from avatar_models.avatar import avatar_files, condition_names
from avatar_models.cameras import Camera, resized
from avatar_models.gagavatar.avatar import OneshotAvatar, avatar_of
from avatar_models.gagavatar.photo_colors import Photos
from avatar_models.gagavatar.storage import StoredModel
from avatar_models.heads.interface import Head
from avatar_models.tracking.detect import SEARCH_SCORE, FaceFinder
from avatar_models.tracking.landmarker import quiet_native_log
from pipelines.fanout import ItemRejected
from pipelines.oneshot.pairs import Poses, images_of, view_of
from pipelines.params import Params
from pipelines.pictures import decode_picture
from pipelines.sources import safe_name
from pipelines.tracked_file import TrackedFrames, tracked
from pipelines.training import camera_as_dict

MIN_FACE_PX = 64
"""Smaller faces show too little to make a person of."""
NO_FACE = "no face is found in it; take a photo that shows the whole face from the front"


class PhotoError(ValueError):
    """No avatar can be made of a photo; the message names it and the way out."""


@dataclass(frozen=True)
class Photo:
    """A photo's person."""

    name: str
    avatar: OneshotAvatar
    camera: Camera  # (1) of the photo, at the model's picture size
    facts: Mapping[str, Any]

    def files(self) -> dict[str, bytes]:
        """The bytes of the avatar's two files."""
        return avatar_files("gagavatar", self.avatar.tensors(), self.facts)


def tracked_photo(path: Path, params: Params, side: int) -> TrackedFrames:
    """One frame: the photo's crop of at least so many pixels, camera and head.

    Raises PhotoError, and what :func:`tracked` raises but ItemRejected.
    """
    expect_one_face(path)
    params = with_crops_of(params, side)
    with tempfile.TemporaryDirectory() as folder:
        # The decoder goes by the bytes, whatever the ending says.
        Path(folder, "0.jpg").write_bytes(path.read_bytes())
        try:
            return tracked(Path(folder), params).segments[0]
        except ItemRejected as error:
            if error.reason == "no_face":
                raise PhotoError(f"{path}: {NO_FACE}") from None
            raise PhotoError(f"{path}: {error.message.removeprefix(f'{folder}: ')}") from None


def with_crops_of(params: Params, side: int) -> Params:
    """Params whose crops have at least so many pixels along a side."""
    crop = params.preprocess.crop.model_copy(update={"side": max(side, params.preprocess.crop.side)})
    return params.model_copy(update={"preprocess": params.preprocess.model_copy(update={"crop": crop})})


def person_name(path: Path) -> str:
    """What the person of a photo is called."""
    return safe_name(path.stem)


def expect_file(path: Path) -> None:
    """Raises PhotoError for what is no file."""
    if path.is_dir():
        raise PhotoError(f"{path}: is a folder; name its photos one by one")
    if not path.is_file():
        raise PhotoError(f"{path}: no such file")


def expect_one_face(path: Path) -> None:
    """Raises PhotoError for what is no picture, and for any number of faces but one that is large enough."""
    expect_file(path)
    picture = decode_picture(path)
    if picture is None:
        raise PhotoError(f"{path}: cannot be read as a picture; give a JPEG or a PNG file")
    with quiet_native_log(), closing(FaceFinder()) as finder:
        faces = [face for face in finder.all(picture) if face.score >= SEARCH_SCORE] or finder.in_tiles(picture)
    if not faces:
        raise PhotoError(f"{path}: {NO_FACE}")
    if len(faces) > 1:
        raise PhotoError(f"{path}: shows {len(faces)} faces; crop it to the one that is meant")
    side = round(float((faces[0].box[2:] - faces[0].box[:2]).min()))
    if side < MIN_FACE_PX:
        raise PhotoError(f"{path}: the face is {side} pixels wide, {MIN_FACE_PX} are needed; give a larger photo")


@torch.no_grad()
def photo_of(path: Path, tracks: TrackedFrames, stored: StoredModel, head: Head, device: str) -> Photo:
    """The person of a tracked photo, made by a model on that device, for the model's own head."""
    side = stored.model.sizes.image_size
    camera = resized(tracks.camera, side, side)
    image = images_of([view_of(tracks.crop(0), camera).image])
    rig = head.rig.take(stored.vertices).to(device, torch.float32)
    identity = tracks.identity.to(device)
    shown = Poses.of(torch.from_numpy(tracks.tracks.conditions[:1])).to(device).vertices(rig, identity[None])
    person = stored.model.person(Photos(image.to(device), camera.to(device), shown))
    name = person_name(path)
    facts = {
        "subject_id": name,
        "head": head.name,
        "head_hash": head.hash(),
        "sizes": stored.model.sizes.as_dict(),
        "condition_names": list(condition_names(head.expression_names)),
        "neutral": [round(value, 6) for value in tracks.tracks.conditions[0].tolist()],
        "camera": camera_as_dict(camera),
        "background": "black",
    }
    return Photo(name, avatar_of(stored.model, person, rig, identity), camera, facts)
