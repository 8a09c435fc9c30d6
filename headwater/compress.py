"""A trained avatar in a smaller file, and what that does to its pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from avatar_models.avatar import (
    BACKGROUNDS,
    FACTS,
    TENSORS,
    Avatar,
    compressed_avatar_files,
    load_avatar,
    read_avatar,
    render,
)
from avatar_models.cameras import Camera
from avatar_models.compression import CODES
from avatar_models.headgas import HeadGas, Smaller, smaller
from avatar_models.headgas.model import REACH
from avatar_models.metrics import psnr
from headwater.avatars import open_avatar
from headwater.render import own_camera
from pipelines.atomic import atomic_folder, write_bytes_atomic
from pipelines.evaluation import MAX_PSNR

PICTURES = 32
"""Random conditions over which pictures are compared."""


class CompressError(ValueError):
    """What was asked for cannot be compressed; the message names it and the way out."""


def compress_to_folder(folder: Path, output: Path, options: Smaller) -> list[str]:
    """Writes the avatar of a folder compressed into another one; returns what there is to tell.

    Raises CompressError, AvatarError, DiskFull, OSError.
    """
    if options.bits not in CODES:
        raise CompressError(f"--bits {options.bits}: there are codes of {' and '.join(map(str, CODES))} bits")
    before = open_avatar(folder)[0]
    method, tensors, facts = read_avatar(folder)
    if method != "headgas":
        raise CompressError(f"{folder}: an avatar of the method {method}; only headgas ones can be compressed")
    if "compression" in facts:
        raise CompressError(f"{folder}: is compressed already; compress the avatar that it was made from, with other options")
    model = HeadGas.from_tensors(tensors, facts["sizes"])
    made, codings = smaller(model, options)
    files = compressed_avatar_files(method, made.tensors(), {**facts, "sizes": made.sizes_as_dict()}, codings)
    try:
        with atomic_folder(output) as temporary:
            for name, data in files.items():
                write_bytes_atomic(temporary / name, data)
    except FileExistsError:
        raise CompressError(f"{output}: is there already; name a folder that does not exist yet, or is empty") from None
    apart, decibels = compared(before, load_avatar(output)[0], facts, random_conditions(model, PICTURES))
    size, small = sum((folder / name).stat().st_size for name in (TENSORS, FACTS)), sum(map(len, files.values()))
    return [
        f"{folder}: {size:,} bytes",
        f"{output}: {small:,} bytes, {size / small:.1f} times smaller",
        f"{PICTURES} random expressions from its own camera: a pixel changes by {apart:.3f} of the full range at most, "
        f"pictures are {decibels:.1f} dB from those before",
    ]


def compared(before: Avatar, after: Avatar, facts: dict[str, Any], conditions: torch.Tensor) -> tuple[float, float]:
    """(largest change of a value in [0, 1], mean PSNR) of pictures from the avatar's own camera under conditions (B, E)."""
    own, background = own_camera(facts), torch.full((3,), BACKGROUNDS[facts["background"]])
    count = len(conditions)
    camera = Camera(own.K.expand(count, -1, -1), own.viewmat.expand(count, -1, -1), own.width, own.height)
    shown, made = (render(avatar, camera, conditions, background) for avatar in (before, after))
    return float((made - shown).abs().max()), float(psnr(made, shown).clamp_max(MAX_PSNR).mean())


def random_conditions(model: HeadGas, count: int) -> torch.Tensor:
    """(B, E) normal with the mean and the spread of training, held within the reach of what was seen; the same ones always."""
    drawn = torch.randn(count, model.condition_size, generator=torch.Generator().manual_seed(0))
    return model.neutral + model.spread * drawn.clamp(-REACH, REACH)
