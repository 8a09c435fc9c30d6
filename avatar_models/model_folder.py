"""A trained model on disk: `model.safetensors`, and `model.json` with facts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

TENSORS, FACTS = "model.safetensors", "model.json"

DAMAGED = (AttributeError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError)
"""What comes of files that are cut short or changed by hand."""


class ModelError(ValueError):
    """A folder does not hold a model that this code can read; the message names it."""


def folder_files(tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> dict[str, bytes]:
    """The bytes of a model's two files; the same model gives the same bytes."""
    text = json.dumps(facts, indent=1, sort_keys=True, allow_nan=False) + "\n"
    return {TENSORS: save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}), FACTS: text.encode()}


def read_folder(folder: Path, formats: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the facts of a folder whose facts say the format `formats`. Raises ModelError."""
    try:
        facts = json.loads((folder / FACTS).read_text())
        if facts["format"] != formats:
            raise ModelError(f"{folder}: model format {facts['format']}, this code reads {formats}; train it again")
        # Copied, since in the file they lie where products may round otherwise than with a trained model's own.
        return {name: tensor.clone() for name, tensor in load_file(folder / TENSORS).items()}, facts
    except ModelError:
        raise
    except FileNotFoundError as error:
        raise ModelError(f"{folder}: not a model, {Path(error.filename or TENSORS).name} is missing") from None
    except DAMAGED as error:
        raise damaged(folder, error) from None


def expect_kind(facts: Mapping[str, Any], kind: str) -> None:
    """Raises ValueError for the facts of another kind of model."""
    if facts.get("kind") != kind:
        raise ValueError(f"its kind is {facts.get('kind')!r}, not {kind!r}")


def damaged(folder: Path, error: Exception) -> ModelError:
    """What to raise for a folder whose files are there and make no model."""
    return ModelError(f"{folder}: the model is damaged ({' '.join(str(error).split())[:200]})")
