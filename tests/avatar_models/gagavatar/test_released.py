"""The released checkpoint's layout, with random tensors of a small model in place of the published ones."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from avatar_models.checkpoints import CheckpointError
from avatar_models.gagavatar import RELEASED
from avatar_models.gagavatar.released import from_released, read_released, released_name
from tests.avatar_models.gagavatar.tiny import TINY, tiny


def released_state() -> dict[str, Tensor]:
    """Random tensors as the released code would save those of a tiny model."""
    state: dict[str, Tensor] = {}
    for ours, tensor in tiny(setting=RELEASED).state_dict().items():
        name = released_name(ours)
        if re.search(r"[qkv]_proj", ours):
            state[name] = torch.cat([state[name], tensor]) if name in state else tensor
        else:
            state[name] = tensor[None] if name.endswith("modulated_conv.weight") else tensor
    return state


def test_every_tensor_finds_its_place() -> None:
    found = from_released(released_state(), "made up", TINY).state_dict()
    for name, tensor in tiny(setting=RELEASED).state_dict().items():
        assert torch.equal(found[name], tensor), name


def test_queries_come_before_keys_and_values() -> None:
    state = released_state()
    name = "base_model.dino_model.blocks.1.attn.qkv.bias"
    state[name] = torch.arange(36.0)
    attention = from_released(state, "made up", TINY).encoder.vit.encoder.layer[1].attention
    assert attention.q_proj.bias.tolist() == list(range(12)) and attention.v_proj.bias.tolist() == list(range(24, 36))


def test_what_the_released_code_never_reads_is_passed_over() -> None:
    extra = {"percep_loss.net.slice1.0.weight": torch.ones(2), "upsampler.toRGB.3.bias": torch.ones(3)}
    from_released({**released_state(), **extra}, "made up", TINY)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"head_base": None}, "made up: 1 tensors are missing: head_base"),
        ({"a.b": torch.ones(1)}, "made up: 1 tensors are not known: a.b"),
        ({"head_base": torch.ones(4, 9)}, r"made up: head_base is \(4, 9\), which does not give \(30, 9\)"),
        ({"head_base": torch.ones(30, 9, dtype=torch.int64)}, "made up: head_base is not a tensor of floats"),
    ],
)
def test_a_file_that_differs_is_refused_by_name(change: dict[str, Tensor | None], message: str) -> None:
    state = {name: tensor for name, tensor in {**released_state(), **change}.items() if tensor is not None}
    with pytest.raises(CheckpointError, match=message):
        from_released(state, "made up", TINY)


def test_a_file_that_would_run_code_or_is_none_is_refused(tmp_path: Path) -> None:
    torch.save({"model": {"a": print}}, tmp_path / "bad.pt")
    with pytest.raises(CheckpointError, match="bad.pt: not a checkpoint that can be read safely"):
        read_released(tmp_path / "bad.pt")
    with pytest.raises(CheckpointError, match="cannot be read: Is a directory"):
        read_released(tmp_path)
    torch.save({"weights": {}}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="other.pt: holds no `model`"):
        read_released(tmp_path / "other.pt")
    with pytest.raises(FileNotFoundError):
        read_released(tmp_path / "none.pt")
