"""Photos that move as somebody in a video does: a one-shot model makes an avatar of each photo."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ImageColor
from rich.console import Console
from rich.markup import escape
from rich.progress import track

from avatar_models.cameras import Camera, resized
from avatar_models.gagavatar.storage import StoredModel, read_model
from avatar_models.heads.interface import Head
from avatar_models.model_folder import FACTS, ModelError
from avatar_models.tracking.matte import Matter
from headwater.overlay import SourceGone, catalog_row
from headwater.render import pictures
from pipelines.atomic import atomic_folder, write_bytes_atomic
from pipelines.devices import drawing_device
from pipelines.fanout import ItemRejected
from pipelines.frames import composite
from pipelines.heads import load_head
from pipelines.oneshot.photo import Photo, expect_file, person_name, photo_of, tracked_photo
from pipelines.overlay import resized_crop
from pipelines.params import Params, load_params
from pipelines.subject import UnknownSegment, find_segment, read_tables
from pipelines.tables import SchemaError
from pipelines.tracked_file import TrackedFrames, tracked, tracked_segment
from pipelines.video import Sound, fits_mp4, sound_codec, write_video

SIZES = range(32, 4097)
MAX_WIDTH = 16384
"""Pixels of a row of panels: H.264's largest picture."""

DARK, SPECK, EDGE = 12, 0.01, 0.004
"""Levels that still count as black; the share of a picture that is too small for a head; an edge's softness, of the height."""

Picture = NDArray[np.uint8]


class AnimateError(ValueError):
    """What was asked for cannot be animated; the message names it and the way out."""


@dataclass(frozen=True)
class Driver:
    """Whose expressions and head the photos take on. N rows."""

    segment: TrackedFrames
    source: Path | None  # the video file that may have sound
    told: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Animated:
    """What was written, and what there is to tell of it."""

    frames: int
    size: int  # of a panel, pixels
    told: list[str]


def animate_to_file(
    photos: Sequence[Path],
    driver: str,
    output: Path,
    *,
    model: Path,
    background: str,
    size: int | None,
    with_driver: bool,
    save_avatar: Path | None,
    console: Console,
) -> Animated:
    """Writes an mp4 of the photos side by side, moved by a driver: a video file, or a segment of this project's tables.

    Raises AnimateError, PhotoError, ModelError, DiskFull, OSError, and what tracking raises.
    """
    color = color_of(background)
    check_output(output)
    check_not_driver(output, driver)
    check_kept(save_avatar, photos)
    for path in photos:
        expect_file(path)
    params = load_params()
    stored = open_model(model, params)
    head = model_head(model, stored, params)
    own_side = stored.model.sizes.image_size
    side = own_side if size is None else size
    check_size(side, len(photos) + with_driver)
    device = drawing_device()
    stored.model.to(device).eval()

    people = []
    for path in photos:
        with console.status(f"looking at {escape(path.name)}"):
            people.append(photo_of(path, tracked_photo(path, params, own_side), stored, head, device))
    with console.status(f"tracking {escape(driver)} (what was tracked before is found again)"):
        moving = find_driver(driver, params, head)

    rows, fps = even_rows(moving.segment.tracks.times)
    panels: list[Iterable[Picture]] = [over(moved(person, moving.segment, rows, side), color) for person in people]
    if with_driver:
        panels.insert(0, (resized_crop(moving.segment.crop(row).image, side) for row in rows.tolist()))
    frames: Iterable[Picture] = (np.concatenate(row, 1) for row in zip(*panels, strict=True))
    frames = track(frames, "drawing", len(rows), console=console, transient=True, disable=not console.is_terminal)
    sound, silence = sound_for(moving, fps)
    count = write_video(output, frames, fps, sound=sound)
    if save_avatar is not None:
        save(people, save_avatar)
    return Animated(count, side, [*moving.told, *silence])


def color_of(name: str) -> NDArray[np.float32]:
    """(3,) in [0, 1] of a colour's name or its #rrggbb. Raises AnimateError."""
    try:
        return np.array(ImageColor.getrgb(name)[:3], np.float32) / 255
    except ValueError:
        raise AnimateError(f"--background {name}: not a colour; write black, white, another name or #rrggbb") from None


def check_output(output: Path) -> None:
    """Raises AnimateError for what is no video's name."""
    if output.suffix.lower() != ".mp4":
        raise AnimateError(f"{output}: an animation is an .mp4 file")
    if output.is_dir():
        raise AnimateError(f"{output}: is a folder; name a file")


def check_not_driver(output: Path, driver: str) -> None:
    """Raises AnimateError where the video would take the place of the one that drives it."""
    if output.exists() and Path(driver).exists() and output.samefile(driver):
        raise AnimateError(f"{output}: is the driver itself; name another file")


def check_kept(folder: Path | None, photos: Sequence[Path]) -> None:
    """Raises AnimateError where avatars of photos cannot be kept in a folder."""
    if folder is None:
        return
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise AnimateError(f"--save-avatar {folder}: is there already; name a folder that does not exist yet, or is empty")
    names = [person_name(path) for path in photos]
    doubles = sorted({name for name in names if names.count(name) > 1})
    if doubles:
        raise AnimateError(f"--save-avatar {folder}: more than one photo is named {doubles[0]}; rename one")


def check_size(side: int, panels: int) -> None:
    """Raises AnimateError for a panel's side that no video can have."""
    if side not in SIZES or side % 2:
        raise AnimateError(f"--size {side}: must be even, from {SIZES[0]} to {SIZES[-1]}")
    if side * panels > MAX_WIDTH:
        raise AnimateError(f"{panels} panels of {side} pixels are wider than {MAX_WIDTH} pixels; give a smaller --size")


def open_model(folder: Path, params: Params) -> StoredModel:
    """The one-shot model of a folder. Raises AnimateError, ModelError."""
    if not (folder / FACTS).is_file():
        train = "`dvc repro train_oneshot` trains models/oneshot"
        if not params.train_oneshot.steps:
            train = f"set train_oneshot.steps in params.yaml, 3000 for a start, then {train}"
        known = "`headwater import gagavatar GAGAvatar.pt -o FOLDER` takes the published weights"
        raise AnimateError(f"{folder}: there is no model; {train}, and {known}")
    return read_model(folder)


def model_head(folder: Path, stored: StoredModel, params: Params) -> Head:
    """The head of params.yaml, which is the model's. Raises AnimateError where it is another, HeadError."""
    try:
        stored.expect_head_called(params.preprocess.head, str(folder))  # reading one may take a minute
        head = load_head(params.preprocess.head, params.preprocess.head_file)
        stored.expect_head(head.name, head.hash(), str(folder))
    except ModelError as error:
        mend = "set preprocess.head and preprocess.head_file in params.yaml to it, or `dvc repro train_oneshot`"
        raise AnimateError(f"{error}; {mend}") from None
    return head


def save(people: Sequence[Photo], folder: Path) -> None:
    """Writes the avatar of one photo into a folder, those of several into folders in it, by their names. Raises DiskFull."""
    with atomic_folder(folder) as temporary:
        for person in people:
            place = temporary / person.name if len(people) > 1 else temporary
            for name, data in person.files().items():
                write_bytes_atomic(place / name, data)


def find_driver(driver: str, params: Params, head: Head) -> Driver:
    """The driver by a file's path or a segment's name. Raises AnimateError."""
    path = Path(driver)
    if path.exists():
        return driver_of_file(path, params)
    try:
        data = read_tables()
        segment = tracked_segment(data, driver)
    except (SchemaError, UnknownSegment) as error:
        raise AnimateError(f"--driver {driver}: there is no such file, and no such tracked clip either: {error}") from None
    if segment.head_hash != head.hash():
        other = segment.tracks.head
        raise AnimateError(f"--driver {driver}: was tracked with another head ({other}); run `dvc repro preprocess`")
    try:
        source = Path(catalog_row(find_segment(data, driver)["catalog_clip_id"])["source"])
    except (SchemaError, SourceGone):
        return Driver(segment, None)
    return Driver(segment, source)


def driver_of_file(path: Path, params: Params) -> Driver:
    """The longest stretch of a video in which a face is followed. Raises AnimateError."""
    try:
        found = tracked(path, params)
    except ItemRejected as error:
        raise AnimateError(f"--driver {path}: {error.message.removeprefix(f'{path}: ')}") from None
    longest = max(found.segments, key=len)
    told = []
    if found.looked_at == params.preprocess.max_frames < found.frames:
        told.append(f"{path}: the first {found.looked_at} frames of {found.frames}; see preprocess.max_frames")
    if len(found.segments) > 1:
        times = longest.tracks.times
        told.append(
            f"{path}: cuts, or a face that is away, split it into {len(found.segments)} parts; the longest is used, "
            f"from {times[0]:.1f} s to {times[-1]:.1f} s"
        )
    return Driver(longest, path, told)


def even_rows(times: NDArray[np.float64]) -> tuple[NDArray[np.int64], float]:
    """(which row is shown at each of N even instants, instants a second: the mean rate), from N rising times.

    A video has one rate. Frames that come unevenly, or are missing, are so shown when they were seen, in time with the sound.
    """
    seconds = float(times[-1] - times[0])
    if seconds <= 0:
        return np.arange(len(times)), 0.0
    between = (times[1:] + times[:-1]) / 2
    return np.searchsorted(between, np.linspace(times[0], times[-1], len(times))), (len(times) - 1) / seconds


def moved(person: Photo, segment: TrackedFrames, rows: NDArray[np.int64], side: int) -> Iterator[Picture]:
    """A person's pictures (side, side, 3) over black, with the expressions and head poses of a segment's rows."""
    device = person.avatar.points.device
    camera = resized(zoomed(segment.camera, person.camera), side, side)[torch.from_numpy(rows)]
    conditions = torch.from_numpy(segment.tracks.conditions[rows])
    return pictures(person.avatar, camera.to(device), conditions.to(device), 0.0)


def zoomed(driver: Camera, photo: Camera) -> Camera:
    """The driver's cameras with the photo's picture size, zoomed about the picture's middle until a head is as large in it as
    in the photo. One zoom for all: who leans forward grows."""
    views = resized(driver, photo.width, photo.height)
    zoom = pixels_per_metre(photo)[0] / pixels_per_metre(views).median()
    K = views.K.clone()
    K[:, :2] *= zoom
    K[:, :2, 2] += (1 - zoom) * torch.tensor([photo.width / 2, photo.height / 2])
    return Camera(K, views.viewmat, photo.width, photo.height)


def pixels_per_metre(camera: Camera) -> torch.Tensor:
    """(B,) at the head's origin."""
    return camera.K[:, 0, 0] / camera.viewmat[:, 2, 3]


def over(shown: Iterable[Picture], color: NDArray[np.float32]) -> Iterator[Picture]:
    """Pictures over black, over another colour (3,) in [0, 1]: what is the person is found in each of them.

    The network knows people with shoulders and sees some in the dark: what was not drawn is no person.
    """
    if not color.any():
        yield from shown
        return
    with closing(Matter()) as matter:
        for picture in shown:
            alpha = np.minimum(matter.matte(picture), drawn(picture))
            yield (composite(picture, alpha, color) * 255).round().astype(np.uint8)


def drawn(picture: Picture) -> NDArray[np.uint8]:
    """(H, W) what a picture (H, W, 3) shows before black, its dark insides (an open mouth, eyes) included; soft at the edge."""
    lit = (picture.max(2) > DARK).astype(np.uint8)
    outlines, _ = cv2.findContours(lit, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    large = [outline for outline in outlines if cv2.contourArea(outline) > SPECK * lit.size]
    filled = cv2.drawContours(np.zeros_like(lit), large, -1, 255, cv2.FILLED)
    return np.asarray(cv2.GaussianBlur(filled, (0, 0), EDGE * len(lit)), np.uint8)


def sound_for(driver: Driver, fps: float) -> tuple[Sound | None, list[str]]:
    """(the sound of what is shown of a driver, why there is none where it had one)."""
    if driver.source is None or not driver.source.is_file() or not fps:
        return None, []
    codec = sound_codec(driver.source)
    if codec and not fits_mp4(codec):
        return None, [f"{driver.source}: its sound is {codec}, which an mp4 file cannot hold; the video is silent"]
    times = driver.segment.tracks.times
    return (Sound(driver.source, float(times[0]), float(times[-1]) + 1 / fps), []) if codec else (None, [])
