"""The released checkpoint's layout: its names for our tensors, and the way from its file to ours.

GAGAvatar.pt is a dictionary with the tensors under `model` and the settings of its training under `meta_cfg`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from avatar_models.checkpoints import CheckpointError, expect_names, read_checkpoint
from avatar_models.gagavatar.model import GAGAvatar
from avatar_models.gagavatar.settings import RELEASED
from avatar_models.gagavatar.sizes import GagavatarSizes, published

VIT, OURS_VIT = "base_model.dino_model.", "encoder.vit."
DECODER = "upsampler.stylegan_decoder."

NAMES: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [
    (r"vertex_features", "head_base"),
    # the transformer
    (r"encoder\.vit\.embeddings\.cls_token", VIT + "cls_token"),
    (r"encoder\.vit\.embeddings\.position_embeddings", VIT + "pos_embed"),
    (r"encoder\.vit\.embeddings\.patch_embeddings\.projection\.(\w+)", VIT + r"patch_embed.proj.\1"),
    (r"encoder\.vit\.encoder\.layer\.(\d+)\.attention\.o_proj\.(\w+)", VIT + r"blocks.\1.attn.proj.\2"),
    (r"encoder\.vit\.encoder\.layer\.(\d+)\.attention\.[qkv]_proj\.(\w+)", VIT + r"blocks.\1.attn.qkv.\2"),
    (r"encoder\.vit\.encoder\.layer\.(\d+)\.layer_scale(\d)\.lambda1", VIT + r"blocks.\1.ls\2.gamma"),
    (r"encoder\.vit\.encoder\.layer\.(\d+)\.(norm\d|mlp\.fc\d)\.(\w+)", VIT + r"blocks.\1.\2.\3"),
    (r"encoder\.vit\.layernorm\.(\w+)", VIT + r"norm.\1"),
    # the pyramid
    (r"encoder\.projections\.(.+)", r"base_model.projects.\1"),
    (r"encoder\.resizes\.(.+)", r"base_model.resize_layers.\1"),
    (r"encoder\.narrow\.(.+)", r"base_model.layer_rn.\1"),
    (r"encoder\.coarsest\.out\.(\w+)", r"base_model.refinenet.0.out_conv.\1"),
    (r"encoder\.coarsest\.refine\.(.+)", r"base_model.refinenet.0.resConfUnit2.\1"),
    (r"encoder\.fusions\.(\d)\.lateral\.(.+)", lambda m: f"base_model.refinenet.{int(m[1]) + 1}.resConfUnit1.{m[2]}"),
    (r"encoder\.fusions\.(\d)\.refine\.refine\.(.+)", lambda m: f"base_model.refinenet.{int(m[1]) + 1}.resConfUnit2.{m[2]}"),
    (r"encoder\.fusions\.(\d)\.refine\.out\.(\w+)", lambda m: f"base_model.refinenet.{int(m[1]) + 1}.out_conv.{m[2]}"),
    (r"encoder\.out\.(\w+)", r"base_model.output_conv.\1"),
    # the branches
    (r"expression\.trunk\.(.+)", r"gs_generator_g.feature_layers.\1"),
    (r"expression\.colors\.(.+)", r"gs_generator_g.color_layers.\1"),
    (r"expression\.opacities\.(.+)", r"gs_generator_g.opacity_layers.\1"),
    (r"expression\.scales\.(.+)", r"gs_generator_g.scale_layers.\1"),
    (r"expression\.quats\.(.+)", r"gs_generator_g.rotation_layers.\1"),
    (r"lifting\.(\d)\.convs\.(.+)", r"gs_generator_l\1.gaussian_conv.\2"),
    # the renderer
    (r"renderer\.first\.(\w+)", r"upsampler.conv_body_first.\1"),
    (r"renderer\.down\.(.+)", r"upsampler.conv_body_down.\1"),
    (r"renderer\.bottom\.(\w+)", r"upsampler.final_conv.\1"),
    (r"renderer\.up\.(.+)", r"upsampler.conv_body_up.\1"),
    (r"renderer\.to_code\.(\w+)", r"upsampler.final_linear.\1"),
    (r"renderer\.scales\.(.+)", r"upsampler.condition_scale.\1"),
    (r"renderer\.shifts\.(.+)", r"upsampler.condition_shift.\1"),
    (r"renderer\.decoder\.style\.layers\.(\d)\.(\w+)", lambda m: f"{DECODER}style_mlp.{2 * int(m[1]) + 1}.{m[2]}"),
    (r"renderer\.decoder\.constant", DECODER + "constant_input.weight"),
    (r"renderer\.decoder\.first\.noise", DECODER + "noises.noise0"),
    (r"renderer\.decoder\.ups\.(\d)\.noise", lambda m: f"{DECODER}noises.noise{2 * int(m[1]) + 1}"),
    (r"renderer\.decoder\.convs\.(\d)\.noise", lambda m: f"{DECODER}noises.noise{2 * int(m[1]) + 2}"),
    (r"renderer\.decoder\.first\.(.+)", lambda m: f"{DECODER}style_conv1.{_layer(m[1])}"),
    (r"renderer\.decoder\.ups\.(\d)\.(.+)", lambda m: f"{DECODER}style_convs.{2 * int(m[1])}.{_layer(m[2])}"),
    (r"renderer\.decoder\.convs\.(\d)\.(.+)", lambda m: f"{DECODER}style_convs.{2 * int(m[1]) + 1}.{_layer(m[2])}"),
    (r"renderer\.decoder\.first_rgb\.(.+)", lambda m: f"{DECODER}to_rgb1.{_layer(m[1])}"),
    (r"renderer\.decoder\.rgbs\.(\d)\.(.+)", lambda m: f"{DECODER}to_rgbs.{m[1]}.{_layer(m[2])}"),
]  # fmt: skip
"""Our names and the released ones."""

UNUSED = re.compile(
    r"base_model\.dino_model\.mask_token|base_model\.refinenet\.0\.resConfUnit1\..+|upsampler\.toRGB\..+|percep_loss\..+"
)
"""Tensors of the released file that its forward pass never reads."""


def _layer(name: str) -> str:
    """A styled layer's tensor."""
    return {"noise_weight": "weight", "bias": "bias"}.get(name, name.replace("conv.", "modulated_conv.", 1))


def released_name(ours: str) -> str:
    """The released file's name for one of our tensors. Raises KeyError."""
    for pattern, name in NAMES:
        if (match := re.fullmatch(pattern, ours)) is not None:
            return match.expand(name) if isinstance(name, str) else name(match)
    raise KeyError(ours)


def read_released(path: Path) -> GAGAvatar:
    """The released checkpoint as our model, in the released setting. Raises CheckpointError, FileNotFoundError."""
    data = read_checkpoint(path)
    if not isinstance(data, Mapping) or not isinstance(data.get("model"), Mapping):
        raise CheckpointError(f"{path}: holds no `model`; the released file is GAGAvatar.pt")
    return from_released(data["model"], str(path))


def from_released(state: Mapping[str, Any], where: str, sizes: GagavatarSizes | None = None) -> GAGAvatar:
    """Our model of released tensors, of the published sizes where none are given.

    Raises CheckpointError for a tensor that is missing, of another shape, or not known.
    """
    with torch.device("meta"):
        model = GAGAvatar(replace(sizes or published(), photo_colors=False), RELEASED)
    wanted = model.state_dict()
    names = {ours: released_name(ours) for ours in wanted}
    expect_names({name: None for name in state if UNUSED.fullmatch(name) is None}, names.values(), where)
    tensors = {ours: taken(ours, state[name], tensor.shape, f"{where}: {name}") for (ours, name), tensor in zip(
        names.items(), wanted.values(), strict=True
    )}  # fmt: skip
    model.load_state_dict(tensors, assign=True)
    return model.eval()


def taken(ours: str, tensor: Any, shape: torch.Size, where: str) -> Tensor:
    """A released tensor as ours, of a shape: queries, keys and values are one there, modulated weights have a batch axis."""
    if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
        raise CheckpointError(f"{where} is not a tensor of floats")
    found = tensor
    part = re.search(r"\.([qkv])_proj\.", ours)
    if part is not None and len(tensor) == 3 * shape[0]:
        found = tensor.chunk(3)["qkv".index(part[1])]
    elif tensor.shape == (1, *shape):
        found = tensor[0]
    if found.shape != shape:
        raise CheckpointError(f"{where} is {tuple(tensor.shape)}, which does not give {tuple(shape)}")
    return found.float().clone()
