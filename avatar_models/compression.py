"""Tensors in few bytes: low rank, whole numbers in place of floats, and deflate. What is left out is decided by a Coding.

A matrix (rows, columns) becomes codes, whole numbers of 8 or 16 bits, and a step per row: x is about code * step, off by half a
step at most. With a rank R it is factors first, left (rows, R) and right (R, columns), of which the right one is coded.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

CODES = {8: torch.int8, 16: torch.int16}
LEVEL = 9  # of deflate: avatars are compressed once


class CompressionError(ValueError):
    """Bytes or codings that were not made by this module, or were damaged since."""


@dataclass(frozen=True)
class Coding:
    """How one tensor is written. A tensor of more or fewer than two dimensions has no coding, and is kept as it is."""

    bits: int
    """8 or 16."""
    rank: int = 0
    """Factors of this rank, those nearest in least squares (Eckart and Young 1936); 0: the matrix itself."""
    channels: int = 1
    """A row is n blocks of so many values, of which those of one channel are written side by side: like beside like."""
    by_column: bool = False
    """A step per column, not per row."""

    def __post_init__(self) -> None:
        if self.bits not in CODES:
            raise CompressionError(f"bits: {self.bits}, there are codes of {', '.join(map(str, CODES))} bits")
        if self.rank < 0 or self.channels < 1:
            raise CompressionError(f"rank: {self.rank}, channels: {self.channels}; they begin at 0 and at 1")


def compress(tensors: Mapping[str, Tensor], codings: Mapping[str, Coding]) -> dict[str, Tensor]:
    """The tensors that :func:`decompress` needs: of a tensor X with a coding `X:codes`, `X:steps` and with a rank `X:left`."""
    small: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name not in codings:
            small[name] = tensor.detach().cpu().contiguous()
            continue
        coding = codings[name]
        matrix = tensor.detach().cpu().double()
        if coding.by_column:
            matrix = matrix.T
        if coding.rank:
            left, matrix = factors(matrix, coding.rank)
            small[f"{name}:left"] = left.float().contiguous()
        # Columns of the left factor have length 1, so errors of all rows of the right one count alike: one step for all.
        codes, steps = quantised(matrix, coding.bits, alike=coding.rank > 0)
        small[f"{name}:codes"] = codes.unflatten(1, (-1, coding.channels)).transpose(1, 2).contiguous()
        small[f"{name}:steps"] = steps
    return small


def decompress(small: Mapping[str, Tensor], codings: Mapping[str, Coding]) -> dict[str, Tensor]:
    """float32 tensors of the shapes that were compressed. Raises CompressionError."""
    parts = {f"{name}:{part}" for name in codings for part in ("codes", "steps", "left")}
    tensors = {name: tensor for name, tensor in small.items() if name not in parts}
    for name, coding in codings.items():
        try:
            matrix = small[f"{name}:codes"].transpose(1, 2).flatten(1).double() * small[f"{name}:steps"].double()[:, None]
            if coding.rank:
                matrix = small[f"{name}:left"].double() @ matrix
        except (KeyError, IndexError, RuntimeError) as error:
            raise CompressionError(f"{name} does not fit its coding ({error})") from None
        tensors[name] = (matrix.T if coding.by_column else matrix).float().contiguous()
    return tensors


def factors(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """(left (rows, R), right (R, columns)) with left @ right nearest to the matrix; left's columns are orthonormal."""
    left = torch.linalg.eigh(matrix @ matrix.T)[1].flip(1)[:, :rank]  # few rows, many columns: their products are small
    return left, left.T @ matrix


def quantised(matrix: Tensor, bits: int, *, alike: bool) -> tuple[Tensor, Tensor]:
    """(codes, steps (rows,) float32), symmetric about 0; `alike`: the same step in all rows."""
    largest = matrix.abs().amax(1)
    if alike:
        largest = largest.max().expand(len(largest))
    steps = (largest / (2 ** (bits - 1) - 1)).float()
    codes = (matrix / steps.double().clamp_min(torch.finfo(torch.float32).tiny)[:, None]).round()
    most = 2 ** (bits - 1) - 1
    return codes.clamp(-most, most).to(CODES[bits]), steps.contiguous()


def packed(tensors: Mapping[str, Tensor]) -> tuple[bytes, int]:
    """(deflated bytes, how many they are when inflated); the same tensors and the same zlib give the same bytes."""
    plain = save(dict(tensors))
    return zlib.compress(plain, LEVEL), len(plain)


def unpacked(data: bytes, size: int) -> dict[str, Tensor]:
    """The tensors of :func:`packed`; `size` is the second thing that it gave. Raises CompressionError."""
    if size <= 0:
        raise CompressionError(f"{size} bytes were announced")
    inflater = zlib.decompressobj()
    try:
        plain = inflater.decompress(data, size + 1)  # no more than was announced: a damaged file does not fill the memory
        if len(plain) != size or not inflater.eof:
            raise CompressionError(f"{size} bytes were announced, and it has others")
        return load(plain)
    except (zlib.error, SafetensorError, OverflowError) as error:
        raise CompressionError(str(error)) from None
