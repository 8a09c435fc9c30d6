"""A forward field on disk: `model.safetensors` with the planes of people, `model.json` with their names and the prior."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avatar_models.heads.nphm.forward import ForwardField, ForwardSizes, TriPlanes
from avatar_models.model_folder import DAMAGED, ModelError, damaged, expect_kind, folder_files, read_folder

FORMAT = 1
KIND = "nphm-forward"


@dataclass(frozen=True)
class StoredForward:
    """A field, the planes of P people, and what else is known."""

    field: ForwardField
    planes: TriPlanes
    people: list[str]  # P names
    facts: Mapping[str, Any]

    def expect_prior(self, prior: str, where: Path) -> None:
        """Raises ModelError where the field was distilled from another prior than that of this sha256."""
        if self.facts["prior"] != prior:
            raise ModelError(
                f"{where}: was distilled from another prior ({self.facts['prior'][:12]}, not {prior[:12]}); "
                "run `dvc repro distill_forward`"
            )


def forward_files(
    field: ForwardField, planes: TriPlanes, people: Sequence[str], prior: str, facts: Mapping[str, Any]
) -> dict[str, bytes]:
    """The bytes of its two files. prior: sha256 of the prior's weights."""
    own = {"format": FORMAT, "kind": KIND, "sizes": field.sizes.as_dict(), "people": list(people), "prior": prior}
    return folder_files({**field.state_dict(), "planes": planes.planes}, {**facts, **own})


def read_forward(folder: Path, device: str = "cpu") -> StoredForward:
    """The field of a folder. Raises ModelError."""
    tensors, facts = read_folder(folder, FORMAT)
    try:
        expect_kind(facts, KIND)
        sizes = ForwardSizes.from_dict(facts["sizes"])
        people = list(facts["people"])
        planes, field = TriPlanes(sizes, len(people)), ForwardField(sizes)
        planes.load_state_dict({"planes": tensors.pop("planes")})
        field.load_state_dict(tensors)
    except DAMAGED as error:
        raise damaged(folder, error) from None
    return StoredForward(field.to(device), planes.to(device), people, facts)
