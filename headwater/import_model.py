"""Published weights into this project's own format."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from avatar_models.checkpoints import CheckpointError
from avatar_models.gagavatar.released import read_released
from avatar_models.gagavatar.storage import model_files
from avatar_models.heads.nphm.released import read_released as read_mononphm
from avatar_models.heads.nphm.storage import nphm_files
from pipelines.atomic import atomic_folder, sha256_file, write_bytes_atomic


class ImportFailed(ValueError):
    """The weights cannot be brought in; the message says why and what to do."""


def import_mononphm(folder: Path, anchors: Path, output: Path) -> list[str]:
    """Reads the folder of the released MonoNPHM and a file of its mean anchors, and writes a model's folder; returns what there
    is to tell.

    Raises ImportFailed, DiskFull.
    """
    try:
        model, codes, checkpoint = read_mononphm(folder, anchors)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ImportFailed(
            f"{error.filename}: no such file; the released folder has configs.yaml and checkpoints/, and the anchors are "
            "assets/anchors_65.npy of github.com/SimonGiebenhain/MonoNPHM"
        ) from None
    except CheckpointError as error:
        raise ImportFailed(str(error)) from None
    facts = {"imported": f"{folder.resolve().name}/{checkpoint.name}", "sha256": sha256_file(checkpoint)}
    _write(output, nphm_files(model, codes, facts))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    people, scans = len(codes.geometry), len(codes.expression)
    return [
        f"{checkpoint}: all tensors are there and have their shapes",
        f"wrote {output}: {parameters:,} parameters, codes of {people:,} people and {scans:,} expressions",
    ]


def import_gagavatar(checkpoint: Path, output: Path) -> list[str]:
    """Reads the released GAGAvatar.pt and writes a model's folder; returns what there is to tell.

    Raises ImportFailed, DiskFull.
    """
    try:
        model = read_released(checkpoint)
    except FileNotFoundError:
        raise ImportFailed(f"{checkpoint}: no such file; GAGAvatar.pt is at huggingface.co/xg-chu/GAGAvatar") from None
    except CheckpointError as error:
        raise ImportFailed(str(error)) from None
    # Its tensors do not say which edition of FLAME: it was trained on FLAME 2020.
    facts = {"head": "flame", "head_hash": "", "imported": checkpoint.name, "sha256": sha256_file(checkpoint)}
    _write(output, model_files(model, torch.arange(model.sizes.num_vertices), facts))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return [
        f"{checkpoint}: all tensors are there and have their shapes",
        f"wrote {output}: {parameters:,} parameters, the setting `released`, for the head flame (FLAME 2020)",
    ]


def _write(output: Path, files: Mapping[str, bytes]) -> None:
    try:
        with atomic_folder(output) as temporary:
            for name, data in files.items():
                write_bytes_atomic(temporary / name, data)
    except FileExistsError:
        raise ImportFailed(f"{output}: is there already; name a folder that does not exist yet, or is empty") from None
