"""An avatar with one expression as a file that Gaussian splatting viewers open."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from avatar_models.gaussians import half_turn_about_x
from avatar_models.ply import write_compressed_ply, write_ply
from headwater.avatars import open_avatar
from headwater.render import RenderError, expression_condition
from pipelines.atomic import atomic_path


@torch.no_grad()
def export_to_file(folder: Path, output: Path, *, expressions: Sequence[str], compressed: bool) -> int:
    """Writes the avatar of a folder as a PLY file, y down as in COLMAP; returns the number of Gaussians.

    Raises RenderError, AvatarError, DiskFull, OSError.
    """
    if output.suffix.lower() != ".ply":
        raise RenderError(f"{output}: an export is a .ply file")
    avatar, facts = open_avatar(folder)
    gaussians = avatar.gaussians(expression_condition(facts, expressions))
    if gaussians.quats is None or gaussians.colors.shape[-1] != 3:
        raise RenderError(f"{folder}: a network draws its pictures, and no viewer knows its Gaussians' features; render it")
    gaussians = half_turn_about_x(gaussians)
    output.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(output) as temporary:
        (write_compressed_ply if compressed else write_ply)(temporary, gaussians)
    return len(gaussians)
