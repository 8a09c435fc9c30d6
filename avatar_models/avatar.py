"""What every avatar answers, whatever method made it, and how one is kept on disk.

An avatar lives in a folder of two files: `avatar.safetensors` (tensors, float32) and `avatar.json` (the method, its
sizes, and facts about the subject such as a neutral condition and a camera to look from). A compressed one has
`avatar.safetensors.z` in place of the first, and `avatar.json` says under `compression` how its tensors are coded.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from avatar_models.cameras import Camera
from avatar_models.compression import Coding, CompressionError, compress, decompress, packed, unpacked
from avatar_models.gaussians import Gaussians
from avatar_models.kernels.arena import empty

FORMAT, COMPRESSED_FORMAT = 2, 3
TENSORS, COMPRESSED_TENSORS, FACTS = "avatar.safetensors", "avatar.safetensors.z", "avatar.json"
BACKGROUNDS = {"white": 1.0, "black": 0.0, "random": 1.0}
"""Names of the backgrounds that avatars are trained on, and the level in all three colours over which they are shown."""


class AvatarError(ValueError):
    """A folder does not hold an avatar that this code can read; the message names it."""


class Avatar(Protocol):
    """condition -> Gaussians in the head's frame -> pictures."""

    condition_size: int

    def gaussians(self, condition: Tensor) -> Gaussians:
        """The avatar's Gaussians for one condition (E,), in the head's world frame, metres."""
        ...

    def each(self, conditions: Tensor) -> Iterator[Gaussians]:
        """The Gaussians of conditions (B, E), one after the other: what is known ahead may be made together."""
        ...

    def draw(self, gaussians: Gaussians, camera: Camera, background: Tensor) -> Tensor:
        """The picture (1, 3, H, W) of its Gaussians that a camera (1) sees over a colour (3,). Values may leave [0, 1]."""
        ...


@torch.no_grad()
def render(avatar: Avatar, camera: Camera, conditions: Tensor, background: Tensor) -> Tensor:
    """Images (B, 3, H, W) of an avatar for B cameras and conditions (B, E) over a background colour (3,)."""
    shape = len(camera), 3, camera.height, camera.width
    images = torch.empty(shape, device=background.device) if background.is_cuda else torch.from_numpy(empty(*shape))
    for index, gaussians in zip(range(len(camera)), avatar.each(conditions), strict=True):
        image = avatar.draw(gaussians, camera[index : index + 1], background)  # let go at once: the next one takes its memory
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
    return {TENSORS: save(_plain(tensors)), FACTS: _facts_file(FORMAT, method, facts)}


def compressed_avatar_files(
    method: str, tensors: Mapping[str, Tensor], facts: Mapping[str, Any], codings: Mapping[str, Coding]
) -> dict[str, bytes]:
    """The bytes of a compressed avatar's two files; the same avatar gives the same bytes."""
    data, size = packed(compress(_plain(tensors), codings))
    how = {"inflated_bytes": size, "codings": {name: asdict(coding) for name, coding in codings.items()}}
    return {COMPRESSED_TENSORS: data, FACTS: _facts_file(COMPRESSED_FORMAT, method, {**facts, "compression": how})}


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().to("cpu", torch.float32).contiguous() for name, tensor in tensors.items()}


def _facts_file(version: int, method: str, facts: Mapping[str, Any]) -> bytes:
    text = json.dumps({**facts, "format": version, "method": method}, indent=1, sort_keys=True, allow_nan=False)
    return (text + "\n").encode()


def read_avatar(folder: Path) -> tuple[str, dict[str, Tensor], dict[str, Any]]:
    """(method, tensors, facts) of an avatar's folder, compressed or not. Raises AvatarError."""
    facts = read_facts(folder)
    version = facts["format"]
    try:
        tensors = load_file(folder / TENSORS) if version == FORMAT else _read_compressed(folder, facts["compression"])
    except FileNotFoundError as error:
        raise AvatarError(f"{folder}: not an avatar, {Path(error.filename or TENSORS).name} is missing") from None
    except (SafetensorError, CompressionError, AttributeError, KeyError, TypeError) as error:
        raise _damaged(folder, error, version) from None
    return facts["method"], tensors, facts


def read_facts(folder: Path) -> dict[str, Any]:
    """What an avatar's folder says of it, without its tensors; of a format that is known. Raises AvatarError."""
    try:
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise AvatarError(f"{folder}: not an avatar, {FACTS} is missing") from None
    except ValueError as error:  # JSON's and UTF-8's
        raise _damaged(folder, error) from None
    if not isinstance(facts, dict):
        raise _damaged(folder, f"{FACTS} holds no object")
    version, method = facts.get("format"), facts.get("method")
    if version not in (FORMAT, COMPRESSED_FORMAT):
        known = f"{FORMAT} and, compressed, {COMPRESSED_FORMAT}"
        raise AvatarError(f"{folder}: avatar format {version}, this code reads {known}; train it again")
    if not isinstance(method, str):
        raise _damaged(folder, f"method: {method} in {FACTS}", version)
    return facts


def _damaged(folder: Path, what: object, version: int | None = FORMAT) -> AvatarError:
    """The error of a folder whose files do not hold what they should."""
    words = f"{type(what).__name__}: {what}" if isinstance(what, Exception) else str(what)
    why = " ".join(words.split())[:300]
    if version == COMPRESSED_FORMAT:
        return AvatarError(f"{folder}: the compressed avatar is damaged ({why}); run `headwater compress` again")
    return AvatarError(f"{folder}: the avatar is damaged ({why}); `dvc repro` makes it again")


def _read_compressed(folder: Path, how: Mapping[str, Any]) -> dict[str, Tensor]:
    codings = {name: Coding(**coding) for name, coding in how["codings"].items()}
    return decompress(unpacked((folder / COMPRESSED_TENSORS).read_bytes(), how["inflated_bytes"]), codings)


def load_avatar(folder: Path, device: str = "cpu") -> tuple[Avatar, dict[str, Any]]:
    """An avatar of any method, to be looked at on a device, and its facts. Raises AvatarError."""
    method, tensors, facts = read_avatar(folder)
    if method == "headgas":
        from avatar_models.headgas import FrozenHeadGas, HeadGas

        with _damage_told(folder, facts):
            model = HeadGas.from_tensors(tensors, facts["sizes"])
        return FrozenHeadGas(model.eval().to(device)), facts
    if method == "gagavatar":
        from avatar_models.gagavatar.avatar import OneshotAvatar

        there = {name: tensor.to(device) for name, tensor in tensors.items()}
        with _damage_told(folder, facts):
            return OneshotAvatar.from_tensors(there, facts["sizes"]), facts
    if method == "npga":
        from avatar_models.npga import Npga

        with _damage_told(folder, facts):
            return Npga.from_tensors(tensors, facts["sizes"]).eval().to(device), facts
    raise AvatarError(f"{folder}: unknown avatar method {method!r}, this code knows headgas, gagavatar and npga")


@contextmanager
def _damage_told(folder: Path, facts: Mapping[str, Any]) -> Iterator[None]:
    """For a block that makes a model of an avatar's tensors and facts: where they do not fit together, one was damaged."""
    try:
        yield
    except (KeyError, TypeError, ValueError, RuntimeError) as error:  # the last is what torch says of other shapes
        raise _damaged(folder, error, facts["format"]) from None
