"""A trained HeadGaS with fewer numbers that shows the same, and how each of its tensors is coded.

N Gaussians, E expression values, D features, H hidden values.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from avatar_models.compression import Coding
from avatar_models.headgas.model import HeadGas
from avatar_models.headgas.variants import ChangeAll, DeltaGeometry

FINE = 16
"""Bits of places and sizes: 8 would round a head's places to a millimetre."""
CELLS = 10  # bits along each side of the grid that orders the Gaussians


@dataclass(frozen=True)
class Smaller:
    """What is left of an avatar."""

    features: int = 4
    """At most so many features; 0: all."""
    rank: int = 32
    """The basis blends so many mixtures of expression values at most; 0: all values, each by itself."""
    bits: int = 8
    """8 or 16, of all but places and sizes, which have 16."""


@torch.no_grad()
def smaller(model: HeadGas, options: Smaller) -> tuple[HeadGas, dict[str, Coding]]:
    """The avatar to be compressed and the codings of its tensors; the given one stays as it is."""
    made = in_order(with_unit_quaternions(with_locality_in_basis(model)))
    if options.features and options.features < made.f0.shape[1]:
        made = narrowed(made, options.features)
    return made, codings(made, options)


def codings(model: HeadGas, options: Smaller) -> dict[str, Coding]:
    """Of the tensors that grow with the number of Gaussians; the MLP and the rest stay float32."""
    rows, width = len(model.F), model.variant.widths(model.sizes).basis
    rank = options.rank if options.rank < rows else 0
    found = {
        "mu": Coding(FINE, by_column=True),
        "log_scales": Coding(FINE, by_column=True),
        "quats": Coding(options.bits, by_column=True),
        "f0": Coding(options.bits, by_column=True),
        "base": Coding(options.bits, by_column=True),
        "F": Coding(options.bits, rank=rank, channels=max(width, 1)),
        "motion": Coding(options.bits, channels=3),  # mostly zeros, which factors would lose
    }
    return {name: coding for name, coding in found.items() if getattr(model, name).numel()}


@torch.no_grad()
def with_locality_in_basis(model: HeadGas) -> HeadGas:
    """r_i F^T e is (r_i F)^T e: the same avatar, whose locality is 1."""
    tensors = dict(model.tensors())
    if model.rides:
        tensors["F"] = tensors["F"] * tensors["locality"].repeat_interleave(model.sizes.feature_dim)
        tensors["locality"] = torch.ones_like(tensors["locality"])
    return HeadGas.from_tensors(tensors, model.sizes_as_dict())


@torch.no_grad()
def with_unit_quaternions(model: HeadGas) -> HeadGas:
    """The same rotations: their lengths drift in training, and a single long one would make the steps of all coarse."""
    if isinstance(model.variant, (DeltaGeometry, ChangeAll)):
        return model  # what their MLP adds to a quaternion turns a long one less
    lengths = model.quats.norm(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    return HeadGas.from_tensors({**model.tensors(), "quats": model.quats / lengths}, model.sizes_as_dict())


@torch.no_grad()
def in_order(model: HeadGas) -> HeadGas:
    """The same Gaussians along a curve through space, so that neighbours are written side by side: deflate gains by it."""
    order, n = along_curve(model.mu), len(model.mu)
    tensors = dict(model.tensors())
    for name in (*model.per_gaussian(), "locality"):
        tensors[name] = tensors[name][order]
    for name in ("F", "motion"):  # a block of columns per Gaussian, or none at all
        blocks = tensors[name].reshape(model.condition_size, n, tensors[name].shape[1] // n)
        tensors[name] = blocks[:, order].flatten(1)
    return HeadGas.from_tensors(tensors, model.sizes_as_dict())


def along_curve(points: Tensor) -> Tensor:
    """The order (N,) of points (N, 3) along a Z-order curve (Morton 1966)."""
    low, high = points.amin(0), points.amax(0)
    cells = ((points - low) / (high - low).clamp_min(1e-9) * (2**CELLS - 1)).long()
    keys = torch.zeros(len(points), dtype=torch.long, device=points.device)
    for bit in range(CELLS):
        for axis in range(3):
            keys |= (cells[:, axis] >> bit & 1) << (3 * bit + axis)
    return torch.argsort(keys, stable=True)


@torch.no_grad()
def narrowed(model: HeadGas, features: int) -> HeadGas:
    """A HeadGas of fewer features whose MLP gets nearly the same from them.

    Of f only W_f f reaches the MLP. Over all Gaussians and expression values, each as far as it goes in training, the part of
    W_f f that the leading principal directions U (H, S) leave out is the least: f' = U^T W_f (f - mean of f_0), W_f' = U, and
    the bias takes W_f times the mean.
    """
    sizes = model.sizes
    tensors = {name: tensor.double() for name, tensor in model.tensors().items()}
    W_f, W_psi = tensors["phi.0.weight"].tensor_split([sizes.feature_dim], 1)
    F, f0 = tensors["F"].reshape(-1, model.variant.widths(sizes).basis) if model.F.numel() else tensors["f0"][:0], tensors["f0"]
    mean = f0.mean(0)
    spread = W_f @ ((f0 - mean).T @ (f0 - mean) + F.T @ F) @ W_f.T
    U = torch.linalg.eigh(spread)[1].flip(1)[:, :features]
    narrow = W_f.T @ U  # (D, S)
    tensors["F"] = (F @ narrow).reshape(sizes.condition_size, -1)
    tensors["f0"] = (f0 - mean) @ narrow
    tensors["phi.0.weight"] = torch.cat([U, W_psi], 1)
    tensors["phi.0.bias"] = tensors["phi.0.bias"] + W_f @ mean
    made = HeadGas(replace(sizes, feature_dim=features))
    made.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    return made
