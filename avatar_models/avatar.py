"""What every avatar answers, whatever method made it, and how one is kept on disk.

An avatar lives in a folder of two files: `avatar.safetensors` (tensors, float32) and `avatar.json` (the method, its
sizes, and facts about the subject such as a neutral condition and a camera to look from).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from avatar_models.cameras import Camera
from avatar_models.gaussians import Gaussians
from avatar_models.kernels.arena import empty
from avatar_models.splatting import splat

FORMAT = 2
TENSORS, FACTS = "avatar.safetensors", "avatar.json"
BACKGROUNDS = {"white": 1.0, "black": 0.0, "random": 1.0}
"""Names of the backgrounds that avatars are trained on, and the level in all three colours over which they are shown."""


class AvatarError(ValueError):
    """A folder does not hold an avatar that this code can read; the message names it."""


class Avatar(Protocol):
    """condition -> Gaussians in the head's frame."""

    condition_size: int

    def gaussians(self, condition: Tensor) -> Gaussians:
        """The avatar's Gaussians for one condition (E,), in the head's world frame, metres."""
        ...

    def each(self, conditions: Tensor) -> Iterator[Gaussians]:
        """The Gaussians of conditions (B, E), one after the other: what is known ahead may be made together."""
        ...


@torch.no_grad()
def render(avatar: Avatar, camera: Camera, conditions: Tensor, background: Tensor) -> Tensor:
    """Images (B, 3, H, W) of an avatar for B cameras and conditions (B, E) over a background colour (3,)."""
    shape = len(camera), 3, camera.height, camera.width
    images = torch.empty(shape, device=background.device) if background.is_cuda else torch.from_numpy(empty(*shape))
    for index, gaussians in zip(range(len(camera)), avatar.each(conditions), strict=True):
        image = splat(gaussians, camera[index : index + 1], background).image  # let go at once: the next one takes its memory
        torch.clamp(image[0], 0.0, 1.0, out=images[index])
    return images


def track_condition(
    expression: NDArray[np.float32], jaw: NDArray[np.float32], eyes: NDArray[np.float32]
) -> NDArray[np.float32]:
    """What drives an avatar, (N, E + 9): expression coefficients (N, E), jaw (N, 3) and eyes (N, 6) in radians."""
    return np.concatenate([expression, jaw, eyes], axis=1).astype(np.float32)


def condition_names(expression_names: tuple[str, ...]) -> tuple[str, ...]:
    """Names of a condition's values, in order."""
    joints = tuple(f"{joint}_{axis}" for joint in ("jaw", "eye_left", "eye_right") for axis in "xyz")
    return (*expression_names, *joints)


def avatar_files(method: str, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> dict[str, bytes]:
    """The bytes of an avatar's two files; the same avatar gives the same bytes."""
    plain = {name: tensor.detach().to("cpu", torch.float32).contiguous() for name, tensor in tensors.items()}
    text = json.dumps({"format": FORMAT, "method": method, **facts}, indent=1, sort_keys=True, allow_nan=False)
    return {TENSORS: save(plain), FACTS: (text + "\n").encode()}


def read_avatar(folder: Path) -> tuple[str, dict[str, Tensor], dict[str, Any]]:
    """(method, tensors, facts) of an avatar's folder. Raises AvatarError."""
    try:
        facts = json.loads((folder / FACTS).read_text())
        tensors = load_file(folder / TENSORS)
    except FileNotFoundError as error:
        raise AvatarError(f"{folder}: not an avatar, {Path(error.filename or TENSORS).name} is missing") from None
    except (json.JSONDecodeError, SafetensorError) as error:
        raise AvatarError(f"{folder}: the avatar is damaged ({error}); `dvc repro` makes it again") from None
    if facts.get("format") != FORMAT:
        raise AvatarError(f"{folder}: avatar format {facts.get('format')}, this code reads {FORMAT}; train it again")
    return facts["method"], tensors, facts


def load_avatar(folder: Path, device: str = "cpu") -> tuple[Avatar, dict[str, Any]]:
    """An avatar of any method, to be looked at on a device, and its facts. Raises AvatarError."""
    from avatar_models.headgas import FrozenHeadGas, HeadGas

    method, tensors, facts = read_avatar(folder)
    if method != "headgas":
        raise AvatarError(f"{folder}: unknown avatar method {method!r}, this code knows headgas")
    return FrozenHeadGas(HeadGas.from_tensors(tensors, facts["sizes"]).eval().to(device)), facts
