"""Published weights into this project's own format."""

from __future__ import annotations

from pathlib import Path

import torch

from avatar_models.gagavatar.released import CheckpointError, read_released
from avatar_models.gagavatar.storage import model_files
from pipelines.atomic import atomic_folder, sha256_file, write_bytes_atomic


class ImportFailed(ValueError):
    """The weights cannot be brought in; the message says why and what to do."""


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
    try:
        with atomic_folder(output) as temporary:
            for name, data in model_files(model, torch.arange(model.sizes.num_vertices), facts).items():
                write_bytes_atomic(temporary / name, data)
    except FileExistsError:
        raise ImportFailed(f"{output}: is there already; name a folder that does not exist yet, or is empty") from None
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return [
        f"{checkpoint}: all tensors are there and have their shapes",
        f"wrote {output}: {parameters:,} parameters, the setting `released`, for the head flame (FLAME 2020)",
    ]
