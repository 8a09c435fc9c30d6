"""Rendering an avatar to a file: a still with an expression, or a video driven by tracks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from avatar_models.avatar import BACKGROUNDS, Avatar, render
from avatar_models.cameras import Camera, resized
from headwater.avatars import avatar_facts, open_avatar
from pipelines.atomic import write_bytes_atomic
from pipelines.devices import drawing_device
from pipelines.evaluation import driven_camera
from pipelines.nearest import did_you_mean
from pipelines.png import png_bytes
from pipelines.subject import NPHM, NPHM_TRACKS_FOLDER, clip_tracks, find_neural_segment, find_segment, read_tables
from pipelines.video import write_video

TOGETHER = 8
"""Frames of a video that are rendered in one call: an avatar makes some expressions faster together."""


class RenderError(ValueError):
    """What was asked for cannot be rendered; the message names it and the way out."""


def render_to_file(folder: Path, output: Path, *, driver: str, expressions: Sequence[str], size: int) -> int:
    """Renders the avatar of a folder into an mp4 (driver) or a png (expressions); returns the number of pictures.

    Raises RenderError, AvatarError, SchemaError, UnknownSegment, DiskFull, OSError.
    """
    if bool(driver) == bool(expressions):
        raise RenderError("give either --driver SEGMENT or one or more --expression NAME=VALUE")
    wanted = ".mp4" if driver else ".png"
    if output.suffix.lower() != wanted:
        raise RenderError(f"{output}: with {'--driver' if driver else '--expression'} the output is a {wanted} file")
    facts = avatar_facts(folder)
    if driver:
        camera, conditions, fps = driven(facts, driver, size)
    else:
        conditions = expression_condition(facts, expressions)[None]
        camera = resized(own_camera(facts), size, size)
    device = drawing_device()  # after what may be mistyped: gsplat may build for minutes
    avatar, _ = open_avatar(folder, device)
    made = pictures(avatar, camera.to(device), conditions.to(device), BACKGROUNDS[facts["background"]])
    if driver:
        return write_video(output, made, fps)
    write_bytes_atomic(output, png_bytes(next(made)))
    return 1


def own_camera(facts: dict[str, Any]) -> Camera:
    """The camera (1) that an avatar's facts name."""
    own = facts["camera"]
    return Camera(torch.tensor(own["K"])[None], torch.tensor(own["viewmat"])[None], own["width"], own["height"])


def driven(facts: dict[str, Any], driver: str, size: int) -> tuple[Camera, torch.Tensor, float]:
    """Cameras, conditions and rate of a driver's segment, for the avatar's own camera."""
    neural = facts["head"] == NPHM
    data = read_tables(tracks=NPHM_TRACKS_FOLDER) if neural else read_tables()
    segment = find_neural_segment(data, driver) if neural else find_segment(data, driver)
    tracks = clip_tracks(data.tracks, driver)
    if neural and tracks.head_hash != facts["head_hash"]:
        raise RenderError(f"{driver} was tracked with another prior than the avatar was made with; `dvc repro train_npga`")
    if tracks.head != facts["head"]:
        raise RenderError(f"{driver} was tracked with the head {tracks.head}, the avatar was made with {facts['head']}")
    views = Camera(torch.from_numpy(tracks.K), torch.from_numpy(tracks.viewmat), size, size)
    return driven_camera(facts["camera"], views, size), torch.from_numpy(tracks.conditions), segment["fps"]


def expression_condition(facts: dict[str, Any], expressions: Sequence[str]) -> torch.Tensor:
    """The avatar's neutral condition with values set by NAME=VALUE."""
    names = facts["condition_names"]
    condition = torch.tensor(facts["neutral"])
    for assignment in expressions:
        name, _, value = assignment.partition("=")
        if name not in names:
            raise RenderError(f"unknown expression {name!r}. {did_you_mean(name, names)}")
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise RenderError(f"--expression {assignment}: {value!r} is not a number; write {name}=0.5")
        condition[names.index(name)] = number
    return condition


@torch.no_grad()
def pictures(avatar: Avatar, camera: Camera, conditions: torch.Tensor, level: float) -> Iterator[NDArray[np.uint8]]:
    """Pictures (H, W, 3) uint8, one at a time. Avatar, cameras and conditions are on one device."""
    for start in range(0, len(camera), TOGETHER):
        some = slice(start, start + TOGETHER)
        images = render(avatar, camera[some], conditions[some], torch.full((3,), level, device=conditions.device))
        yield from (images.permute(0, 2, 3, 1) * 255).round().to(torch.uint8).cpu().numpy()
