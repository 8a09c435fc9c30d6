"""A head in one npz file: what a set of tracks was made with, so that it can be read without the model's own files."""

from __future__ import annotations

import zlib
from dataclasses import fields
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch

from avatar_models.heads.embedding import LandmarkEmbedding
from avatar_models.heads.interface import Head
from avatar_models.heads.skinning import Rig

FORMAT = 1


class HeadFileError(ValueError):
    """The file is not a head that this code can read; the message names it and the way out."""


def save_head(path: Path, head: Head) -> None:
    """Writes a head; the same head gives the same bytes."""
    arrays = {"format": np.array(FORMAT), "name": np.array(head.name), "one_sided": np.array(head.one_sided)}
    arrays |= {"identity_names": np.array(head.identity_names, np.str_)}
    arrays |= {"expression_names": np.array(head.expression_names), "faces": head.faces.numpy()}
    arrays |= {f"rig.{f.name}": array.numpy() for f in fields(Rig) if (array := getattr(head.rig, f.name)) is not None}
    arrays |= {f"embedding.{f.name}": getattr(head.embedding, f.name).numpy() for f in fields(LandmarkEmbedding)}
    arrays |= {f"mask.{name}": mask.numpy() for name, mask in head.masks.items()}
    with path.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def read_head(path: Path) -> Head:
    """Reads a head. Raises HeadFileError, also where there is none."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = dict(stored)
        if int(arrays["format"]) != FORMAT:
            raise HeadFileError(f"{path}: format {arrays['format']}, this code reads {FORMAT}; `dvc repro` makes it again")

        def part(prefix: str) -> dict[str, torch.Tensor]:
            return {
                name.removeprefix(prefix): torch.from_numpy(array) for name, array in arrays.items() if name.startswith(prefix)
            }

        return Head(
            str(arrays["name"]), Rig(**part("rig.")), torch.from_numpy(arrays["faces"]),
            tuple(str(name) for name in arrays["expression_names"]), bool(arrays["one_sided"]),
            LandmarkEmbedding(**part("embedding.")), part("mask."), tuple(str(name) for name in arrays["identity_names"]),
        )  # fmt: skip
    except FileNotFoundError:
        raise HeadFileError(f"{path}: not found. `dvc repro` makes it.") from None
    except (BadZipFile, EOFError, KeyError, OSError, TypeError, ValueError, zlib.error) as error:
        if isinstance(error, HeadFileError):
            raise
        raise HeadFileError(f"{path}: not a head ({error}). Delete it; `dvc repro` makes it again.") from None
