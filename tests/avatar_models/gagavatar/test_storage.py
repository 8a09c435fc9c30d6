"""A model on disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from avatar_models.gagavatar import RELEASED
from avatar_models.gagavatar.released import VIT, released_name
from avatar_models.gagavatar.storage import load_backbone, model_files, read_model
from avatar_models.model_folder import FACTS, TENSORS, ModelError
from avatar_models.perceptual import PerceptualWeightsError
from tests.avatar_models.gagavatar.tiny import cameras, heads, shown, tiny


def stored(folder: Path) -> Path:
    for name, data in model_files(tiny(setting=RELEASED), torch.arange(5, 35), {"head": "flame", "head_hash": ""}).items():
        (folder / name).write_bytes(data)
    return folder


def test_a_model_comes_back_with_its_setting_its_vertices_and_the_same_pictures(tmp_path: Path) -> None:
    found = read_model(stored(tmp_path))
    assert found.model.setting is RELEASED and found.vertices.tolist() == list(range(5, 35)) and found.facts["head"] == "flame"
    with torch.no_grad():
        arguments = shown(1), heads(1), cameras(1)
        assert torch.equal(found.model.eval()(*arguments)[0].refined, tiny(setting=RELEASED)(*arguments)[0].refined)


def test_the_same_model_gives_the_same_bytes() -> None:
    assert model_files(tiny(), torch.arange(30), {}) == model_files(tiny(), torch.arange(30), {})


def test_damage_is_told_with_the_folders_name(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not a model, model.json is missing"):
        read_model(tmp_path)
    stored(tmp_path)
    facts = json.loads((tmp_path / FACTS).read_text())
    for change in ({"format": 9}, {"setting": "none"}, {"sizes": {}}, {"sizes": {**facts["sizes"], "vertex_dim": 3}}):
        (tmp_path / FACTS).write_text(json.dumps({**facts, **change}))
        with pytest.raises(ModelError, match=str(tmp_path)):
            read_model(tmp_path)
    (tmp_path / FACTS).write_text(json.dumps(facts))
    (tmp_path / TENSORS).write_bytes(b"not tensors")
    with pytest.raises(ModelError, match="damaged"):
        read_model(tmp_path)


def test_dinov2s_file_fills_the_transformer_and_is_kept(tmp_path: Path) -> None:
    source, target = tiny(), tiny()
    state: dict[str, torch.Tensor] = {}
    for ours, tensor in source.encoder.vit.state_dict().items():
        name = released_name(f"encoder.vit.{ours}").removeprefix(VIT)
        state[name] = torch.cat([state[name], tensor]) if name in state else tensor.clone()
    torch.nn.init.normal_(target.encoder.vit.layernorm.weight)
    torch.save(state, tmp_path / "dino.pth")
    load_backbone(target.encoder, tmp_path / "dino.pth")
    for name, tensor in source.encoder.vit.state_dict().items():
        assert torch.equal(target.encoder.vit.state_dict()[name], tensor), name
    assert not any(parameter.requires_grad for parameter in target.encoder.vit.parameters())
    torch.save({}, tmp_path / "other.pth")
    with pytest.raises(PerceptualWeightsError, match="not DINOv2"):
        load_backbone(target.encoder, tmp_path / "other.pth")
