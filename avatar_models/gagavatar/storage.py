"""A trained model on disk: `model.safetensors`, and `model.json` with its sizes, its setting and facts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from avatar_models.gagavatar.encoder import Encoder
from avatar_models.gagavatar.model import GAGAvatar
from avatar_models.gagavatar.released import VIT, released_name, taken
from avatar_models.gagavatar.settings import SETTINGS
from avatar_models.gagavatar.sizes import GagavatarSizes
from avatar_models.model_folder import DAMAGED, ModelError, damaged, folder_files, read_folder
from avatar_models.perceptual import read_weights

FORMAT = 1
DINOV2_URL = "https://dl.fbaipublicfiles.com/dinov2/dinov2_vitb14/dinov2_vitb14_pretrain.pth"


@dataclass(frozen=True)
class StoredModel:
    """A model, the vertices (V,) of the head that carry its Gaussians, and what else is known of it."""

    model: GAGAvatar
    vertices: Tensor
    facts: Mapping[str, Any]  # head, head_hash (empty where it is not known), and more

    def expect_head_called(self, name: str, where: str) -> None:
        """Raises ModelError, which begins with `where`, by the head's name alone: it is known before the head is read."""
        if self.facts["head"] != name:
            raise ModelError(f"{where}: was made for the head {self.facts['head']}, preprocess.head is {name}")

    def expect_head(self, name: str, head_hash: str, where: str) -> None:
        """Raises ModelError, which begins with `where`, for another head than the model was made for."""
        self.expect_head_called(name, where)
        if self.facts["head_hash"] not in ("", head_hash):
            raise ModelError(f"{where}: was made for another file of the head {name} than preprocess.head_file")


def model_files(model: GAGAvatar, vertices: Tensor, facts: Mapping[str, Any]) -> dict[str, bytes]:
    """The bytes of a model's two files; the same model gives the same bytes. `facts` name the head and its hash."""
    own = {"format": FORMAT, "sizes": model.sizes.as_dict(), "setting": model.setting.name}
    return folder_files({**model.state_dict(), "vertices": vertices}, {**facts, **own})


def read_model(folder: Path, device: str = "cpu") -> StoredModel:
    """The model of a folder, to be used or trained on. Raises ModelError."""
    tensors, facts = read_folder(folder, FORMAT)
    try:
        with torch.device("meta"):
            model = GAGAvatar(GagavatarSizes.from_dict(facts["sizes"]), SETTINGS[facts["setting"]])
        vertices = tensors.pop("vertices")
        if missing := {"head", "head_hash"} - set(facts):
            raise KeyError(*missing)
        model.load_state_dict(tensors, assign=True)
    except DAMAGED as error:
        raise damaged(folder, error) from None
    return StoredModel(model.to(device), vertices, facts)


def load_backbone(encoder: Encoder, path: Path) -> None:
    """DINOv2's published weights into an encoder, which keeps them as they are from then on.

    Raises PerceptualWeightsError, FileNotFoundError.
    """
    names = {ours: released_name(f"encoder.vit.{ours}").removeprefix(VIT) for ours in encoder.vit.state_dict()}
    wanted = encoder.vit.state_dict()
    shapes = {}
    for ours, theirs in names.items():
        shape = tuple(wanted[ours].shape)
        shapes[theirs] = (3 * shape[0], *shape[1:]) if "qkv" in theirs else shape
    state = read_weights(path, shapes, "DINOv2 ViT-B/14", DINOV2_URL)
    encoder.vit.load_state_dict(
        {ours: taken(ours, state[theirs], wanted[ours].shape, str(path)) for ours, theirs in names.items()}
    )
    encoder.vit.requires_grad_(False)
