"""The released MonoNPHM: the layout of its folder and its checkpoint, and the way from there to our model.

A folder holds `configs.yaml`, and checkpoints/checkpoint_epoch_N.tar: a dictionary with the networks' tensors under
`id_decoder` and `ex_decoder` and the codes of its training under `latent_codes`. The mean anchors are in neither; the released
code reads them from its assets.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor

from avatar_models.checkpoints import CheckpointError, expect_names, read_checkpoint
from avatar_models.heads.nphm.ensemble import LocalMLPs
from avatar_models.heads.nphm.model import UNITS, Nphm
from avatar_models.heads.nphm.sizes import NphmSizes, published
from avatar_models.heads.nphm.storage import Codebooks

CONFIG, CHECKPOINTS = "configs.yaml", "checkpoints"

IDENTITY, EXPRESSION, CODES = "id_decoder", "ex_decoder", "latent_codes"
"""Parts of the checkpoint."""

CODEBOOKS = {name: f"codebook.{name}.embedding.weight" for name in ("geo", "app", "exp")}

PARTS = {
    "anchor_offsets": "mlp_pos",
    "link.0": "communcation_bottleneck1",
    "link.2": "communcation_bottleneck2",
}
"""Our names and theirs of the parts that are shared by all regions; the spelling is theirs."""

MODE = "compress"
"""Of the deformation: it learns a few values of the identity."""


def read_released(folder: Path, anchors: Path) -> tuple[Nphm, Codebooks, Path]:
    """The released model of a folder with the mean anchors of a file, the codes of its training, and its checkpoint's path.

    Of several checkpoints it is the one of the last epoch. Raises CheckpointError, FileNotFoundError.
    """
    sizes = read_sizes(folder / CONFIG)
    checkpoint = last_checkpoint(folder / CHECKPOINTS)
    state = read_checkpoint(checkpoint)
    missing = [name for name in (IDENTITY, EXPRESSION, CODES) if not isinstance(_of(state, name), Mapping)]
    if missing:
        raise CheckpointError(f"{checkpoint}: holds no `{missing[0]}`; it is not a checkpoint of MonoNPHM")
    return (*from_released(state, read_anchors(anchors, sizes), str(checkpoint), sizes), checkpoint)


def read_sizes(path: Path) -> NphmSizes:
    """The sizes that a released configuration says. Raises CheckpointError, FileNotFoundError."""
    try:
        config = yaml.safe_load(path.read_text())
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise CheckpointError(f"{path}: not YAML ({' '.join(str(error).split())[:200]})") from None
    decoder = _of(config, "decoder")
    identity, deformation = _of(decoder, "id"), _of(decoder, "ex")
    mlps = _of(identity, "gnn")

    def number(values: Any, key: str, kind: type = int) -> Any:
        found = _of(values, key)
        if isinstance(found, bool) or not isinstance(found, (int, kind)):
            raise CheckpointError(f"{path}: has no number {key} where the released configuration has one (it says {found!r})")
        return kind(found)

    mode, local = _of(deformation, "mode"), number(identity, "lat_dim_loc_geo")
    if mode != MODE:
        raise CheckpointError(f"{path}: the deformation's mode is {mode!r}; only {MODE!r}, the released one, can be read")
    if number(identity, "lat_dim_loc_app") != local:
        raise CheckpointError(f"{path}: local codes of geometry and appearance have different lengths, which cannot be read")
    told = {
        "num_anchors": number(identity, "nloc"),
        "num_pairs": number(identity, "nsymm_pairs"),
        "neighbors": number(identity, "nneigh"),
        "global_code": number(identity, "lat_dim_glob"),
        "geometry_hidden": number(mlps, "hidden_dim_geo"),
        "geometry_layers": number(mlps, "nlayers_geo"),
        "color_hidden": number(mlps, "hidden_dim_app"),
        "color_layers": number(mlps, "nlayers_app"),
        "expression_code": number(deformation, "lat_dim_ex"),
        "compressed": number(deformation, "lat_dim_id"),
        "hyper": number(deformation, "nhyper"),
        "deformation_hidden": number(deformation, "hidden_dim"),
        "deformation_layers": number(deformation, "nlayers"),
    }
    blend = number(identity, "blend_std", float)
    try:
        return replace(published(), **told, local_code=local, blend_width=1 / blend)
    except (ValueError, ZeroDivisionError) as error:
        raise CheckpointError(f"{path}: {error}") from None


def last_checkpoint(folder: Path) -> Path:
    """The checkpoint of the last epoch. Raises CheckpointError."""
    found = {
        int(match[1]): path for path in folder.glob("*") if (match := re.fullmatch(r"checkpoint_epoch_(\d+)\.tar", path.name))
    }
    if not found:
        raise CheckpointError(f"{folder}: no checkpoint_epoch_N.tar is there")
    return found[max(found)]


def read_anchors(path: Path, sizes: NphmSizes) -> Tensor:
    """Mean anchors (A, 3) in metres of the released code's file. Raises CheckpointError, FileNotFoundError."""
    try:
        array = np.load(path, allow_pickle=False)
    except (EOFError, ValueError) as error:
        raise CheckpointError(f"{path}: not an array of numpy ({error})") from None
    if not isinstance(array, np.ndarray) or array.shape != (sizes.num_anchors, 3) or array.dtype.kind != "f":
        shape = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else "no array"
        raise CheckpointError(
            f"{path}: anchors are {shape}, this model has floats ({sizes.num_anchors}, 3): "
            f"assets/anchors_{sizes.num_anchors}.npy of the released code"
        )
    return torch.from_numpy(array).float() / UNITS


def from_released(
    state: Mapping[str, Any], anchors: Tensor, where: str, sizes: NphmSizes | None = None
) -> tuple[Nphm, Codebooks]:
    """Our model of a released checkpoint, of the published sizes where none are given. Anchors (A, 3) are in metres.

    Raises CheckpointError for a tensor that is missing, of another shape, or not known.
    """
    sizes = sizes or published()
    shapes = released_shapes(sizes)
    for part in shapes:
        expect_names(state[part], shapes[part], f"{where}: {part}")
    taken = {
        part: {name: _taken(state[part][name], shape, f"{where}: {part}: {name}") for name, shape in own.items()}
        for part, own in shapes.items()
    }
    identity, deformation, books = taken[IDENTITY], taken[EXPRESSION], taken[CODES]
    geo, app, exp = (books[CODEBOOKS[name]] for name in ("geo", "app", "exp"))
    if len(geo) != len(app):
        raise CheckpointError(f"{where}: there are codes of {len(geo)} people's geometry and of {len(app)} people's appearance")
    model = Nphm(sizes, anchors)
    canonical = model.canonical
    tensors = {f"canonical.{name}": tensor for name, tensor in canonical.state_dict().items() if name == "mean_anchors"}
    for part, theirs in PARTS.items():
        tensors |= {f"canonical.{part}{rest}": identity[theirs + rest] for rest in _rests(identity, theirs)}
    for part, theirs, local in (("geometry", "deepSDFensemble", canonical.geometry), ("color", "aggr_app", canonical.color)):
        found = _stacked(identity, theirs, local, sizes)
        tensors |= {f"canonical.{part}.{name}": tensor for name, tensor in found.items()}
    tensors |= {f"deformation.compress.{kind}": deformation[f"compressor.0.{kind}"] for kind in ("weight", "bias")}
    for layer in range(sizes.deformation_layers + 1):
        # Theirs has [h, point, about], as ours.
        for kind in ("weight", "bias"):
            tensors[f"deformation.layers.{layer}.{kind}"] = deformation[f"defDeepSDF.lin{layer}.{kind}"]
    model.load_state_dict(tensors)
    return model.eval(), Codebooks(geo, app, exp)


def released_shapes(sizes: NphmSizes) -> dict[str, dict[str, tuple[int | None, ...]]]:
    """All tensors of a checkpoint that are read, by part; None for a length that is the data set's."""
    identity: dict[str, tuple[int | None, ...]] = {}
    deformation: dict[str, tuple[int | None, ...]] = {}
    _linear(identity, "mlp_pos.0", sizes.global_code, sizes.anchor_hidden)
    _linear(identity, "mlp_pos.2", sizes.anchor_hidden, sizes.anchor_hidden)
    _linear(identity, "mlp_pos.4", sizes.anchor_hidden, 3 * sizes.num_anchors)
    _linear(identity, "communcation_bottleneck1", sizes.geometry_hidden, sizes.link)
    _linear(identity, "communcation_bottleneck2", sizes.link, sizes.link)
    code = sizes.global_code + sizes.local_code
    for name, before, hidden, layers, out in (
        ("deepSDFensemble", code + 3 + sizes.hyper, sizes.geometry_hidden, sizes.geometry_layers, 1),
        ("aggr_app", code + sizes.link, sizes.color_hidden, sizes.color_layers, 3),
    ):
        widths = [before, *[hidden] * layers, out]
        for mlp in range(sizes.num_mlps):
            for layer in range(layers + 1):
                _linear(identity, f"{name}.layers.{mlp}.layers.{2 * layer}", widths[layer], widths[layer + 1])
    _linear(deformation, "compressor.0", sizes.identity_code + 3 * sizes.num_anchors, sizes.compressed)
    hidden, given = sizes.deformation_hidden, 3 + sizes.compressed + sizes.expression_code
    for layer in range(sizes.deformation_layers + 1):
        before = (hidden if layer else 0) + (given if layer in (0, sizes.deformation_layers // 2) else 0)
        out = hidden if layer < sizes.deformation_layers else 3 + sizes.hyper
        _linear(deformation, f"defDeepSDF.lin{layer}", before, out)
    lengths = {"geo": sizes.identity_code, "app": sizes.identity_code, "exp": sizes.expression_code}
    books: dict[str, tuple[int | None, ...]] = {CODEBOOKS[name]: (None, length) for name, length in lengths.items()}
    return {IDENTITY: identity, EXPRESSION: deformation, CODES: books}


def _linear(shapes: dict[str, tuple[int | None, ...]], name: str, before: int, after: int) -> None:
    shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (after, before), (after,)


def _stacked(identity: Mapping[str, Tensor], name: str, local: LocalMLPs, sizes: NphmSizes) -> dict[str, Tensor]:
    """Their MLPs, one by one with weights (out, in), as ours: all in one, (M, in, out), and the first layer in two."""

    def all_of(layer: int, kind: str) -> Tensor:
        return torch.stack([identity[f"{name}.layers.{mlp}.layers.{2 * layer}.{kind}"] for mlp in range(sizes.num_mlps)])

    layers = len(local.biases)
    weights = [all_of(layer, "weight").mT for layer in range(layers + 1)]
    of_code, of_point = weights[0].split([local.of_code.shape[1], local.of_point.shape[1]], 1)
    return {
        "of_code": of_code,
        "of_point": of_point,
        **{f"weights.{layer - 1}": weights[layer] for layer in range(1, layers)},
        **{f"biases.{layer}": all_of(layer, "bias") for layer in range(layers)},
        "last": weights[layers],
        "last_bias": all_of(layers, "bias"),
    }


def _rests(tensors: Mapping[str, Tensor], name: str) -> list[str]:
    """What follows a module's name in the names of its tensors."""
    return [key.removeprefix(name) for key in tensors if key.startswith(f"{name}.")]


def _taken(tensor: Any, shape: tuple[int | None, ...], where: str) -> Tensor:
    if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
        raise CheckpointError(f"{where} is not a tensor of floats")
    fits = tensor.dim() == len(shape) and all(want in (None, have) for want, have in zip(shape, tensor.shape, strict=True))
    if not fits:
        wanted = ", ".join("any" if length is None else str(length) for length in shape)
        raise CheckpointError(f"{where} is {tuple(tensor.shape)}, this model has ({wanted})")
    return tensor.float()


def _of(values: Any, key: str) -> Any:
    return values.get(key) if isinstance(values, Mapping) else None
