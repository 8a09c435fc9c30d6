"""A neural head on disk: `model.safetensors` with the codes it was trained with, and `model.json` with its sizes and facts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from avatar_models.heads.nphm.model import Nphm
from avatar_models.heads.nphm.sizes import NphmSizes
from avatar_models.model_folder import DAMAGED, damaged, expect_kind, folder_files, read_folder

FORMAT = 1
KIND = "nphm"


@dataclass(frozen=True)
class Codebooks:
    """The codes of all that a model was trained on: what is known of how codes are spread."""

    geometry: Tensor  # (S, D) of S people
    appearance: Tensor  # (S, D)
    expression: Tensor  # (T, E) of T scans

    def tensors(self) -> dict[str, Tensor]:
        return {"codes.geometry": self.geometry, "codes.appearance": self.appearance, "codes.expression": self.expression}


@dataclass(frozen=True)
class StoredNphm:
    """A model, its training's codes, and what else is known of it."""

    model: Nphm
    codes: Codebooks
    facts: Mapping[str, Any]


def nphm_files(model: Nphm, codes: Codebooks, facts: Mapping[str, Any]) -> dict[str, bytes]:
    """The bytes of a model's two files; the same model gives the same bytes."""
    own = {"format": FORMAT, "kind": KIND, "sizes": model.sizes.as_dict()}
    return folder_files({**model.state_dict(), **codes.tensors()}, {**facts, **own})


def read_nphm(folder: Path, device: str = "cpu") -> StoredNphm:
    """The model of a folder, to be used or trained on. Raises ModelError."""
    tensors, facts = read_folder(folder, FORMAT)
    try:
        expect_kind(facts, KIND)
        sizes = NphmSizes.from_dict(facts["sizes"])
        codes = Codebooks(*(tensors.pop(f"codes.{name}").to(device) for name in ("geometry", "appearance", "expression")))
        expect_codes(codes, sizes)
        model = Nphm(sizes, torch.zeros(sizes.num_anchors, 3))
        model.load_state_dict(tensors)
    except DAMAGED as error:
        raise damaged(folder, error) from None
    return StoredNphm(model.to(device), codes, facts)


def expect_codes(codes: Codebooks, sizes: NphmSizes) -> None:
    """Raises ValueError for codes that are not of these sizes."""
    people, scans = len(codes.geometry), len(codes.expression)
    wanted = {
        "geometry": (people, sizes.identity_code),
        "appearance": (people, sizes.identity_code),
        "expression": (scans, sizes.expression_code),
    }
    for name, shape in wanted.items():
        found = tuple(getattr(codes, name).shape)
        if found != shape:
            raise ValueError(f"codes of {name} are {found}, not {shape}")
