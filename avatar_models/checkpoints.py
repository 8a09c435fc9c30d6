"""Other projects' checkpoints: read without executing what is in them, and refused by name where they differ."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from avatar_models.memory import is_out_of_memory


class CheckpointError(ValueError):
    """A file is not the released checkpoint; the message names what differs."""


def read_checkpoint(path: Path) -> Any:
    """What torch stored in a file, on the CPU. Raises CheckpointError, FileNotFoundError."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (FileNotFoundError, MemoryError):
        raise
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from None
    except Exception as error:  # torch's reader raises whatever the damage leads it to, and advises to read it unsafely
        if is_out_of_memory(error):
            raise MemoryError(f"{path}: there is no memory for it") from None
        refused = re.search(r"GLOBAL (\S+)", str(error))
        what = f"it holds {refused[1]}, which is no tensor" if refused else "it is no file of torch's, or damaged"
        raise CheckpointError(f"{path}: not a checkpoint that can be read safely ({type(error).__name__}): {what}") from None


def expect_names(found: Mapping[str, Any], wanted: Iterable[str], where: str) -> None:
    """Raises CheckpointError, which begins with `where`, for tensors that are missing or not known."""
    wanted = set(wanted)
    missing, unknown = sorted(wanted - set(found)), sorted(set(found) - wanted)
    if missing or unknown:
        raise CheckpointError(f"{where}: {_listed('tensors are missing', missing)}{_listed('tensors are not known', unknown)}")


def _listed(what: str, names: list[str]) -> str:
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return f"{len(names)} {what}: {shown}. " if names else ""
