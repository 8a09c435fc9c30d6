"""Tensors in few bytes: judged by numpy's SVD, by what rounding may do, and by what comes back."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from avatar_models.compression import Coding, CompressionError, compress, decompress, factors, packed, quantised, unpacked


def matrix(rows: int = 7, columns: int = 60) -> torch.Tensor:
    """Rows of very different sizes."""
    g = torch.Generator().manual_seed(1)
    return torch.randn(rows, columns, generator=g) * torch.logspace(-3, 1, rows)[:, None]


@pytest.mark.parametrize("rank", [1, 3, 7])
def test_factors_are_the_nearest_of_their_rank(rank: int) -> None:
    wanted = matrix().double()
    left, right = factors(wanted, rank)
    U, s, Vt = np.linalg.svd(wanted.numpy(), full_matrices=False)
    assert np.allclose((left @ right).numpy(), (U[:, :rank] * s[:rank]) @ Vt[:rank], atol=1e-9)
    assert np.allclose((left.T @ left).numpy(), np.eye(rank), atol=1e-12)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("alike", [False, True])
def test_a_number_is_off_by_half_a_step_at_most(bits: int, alike: bool) -> None:
    wanted = matrix().double()
    codes, steps = quantised(wanted, bits, alike=alike)
    largest = wanted.abs().numpy().max(None if alike else 1)
    assert np.allclose(steps.numpy(), largest / (2 ** (bits - 1) - 1), rtol=1e-6)
    found = codes.double() * steps.double()[:, None]
    assert ((found - wanted).abs() <= 0.5001 * steps.double()[:, None]).all()
    assert codes.dtype == {8: torch.int8, 16: torch.int16}[bits]


def test_rows_of_zeros_stay_zeros() -> None:
    codes, steps = quantised(torch.zeros(2, 3).double(), 8, alike=False)
    assert not codes.any() and not steps.any()


@pytest.mark.parametrize(
    "coding",
    [
        Coding(16),
        Coding(16, channels=3),
        Coding(16, by_column=True),
        Coding(16, rank=7, channels=4),
        Coding(16, rank=60, by_column=True),
    ],
)
def test_what_was_compressed_comes_back(coding: Coding) -> None:
    tensors = {"x": matrix(), "kept": torch.arange(3.0), "alone": torch.tensor(2.0)}
    data, size = packed(compress(tensors, {"x": coding}))
    found = decompress(unpacked(data, size), {"x": coding})
    assert found.keys() == tensors.keys()
    assert torch.equal(found["kept"], tensors["kept"]) and torch.equal(found["alone"], tensors["alone"])
    assert found["x"].shape == tensors["x"].shape
    largest = tensors["x"].abs().max()
    assert (found["x"] - tensors["x"]).abs().max() <= 3 * largest / 32767


def test_values_of_a_channel_are_written_side_by_side() -> None:
    blocks = torch.tensor([[1.0, 10.0, 2.0, 20.0, 3.0, 127.0]])  # three blocks of two
    assert compress({"x": blocks}, {"x": Coding(8, channels=2)})["x:codes"].tolist() == [[[1, 2, 3], [10, 20, 127]]]


def test_the_same_tensors_give_the_same_bytes() -> None:
    coding = {"x": Coding(8, rank=3, channels=2)}
    assert packed(compress({"x": matrix()}, coding)) == packed(compress({"x": matrix()}, coding))


def test_damage_is_told() -> None:
    coding = {"x": Coding(8)}
    data, size = packed(compress({"x": matrix()}, coding))
    for damaged, announced in ((data[:-9], size), (data, size - 1), (data, size + 1), (b"no" + data, size), (data, -1)):
        with pytest.raises(CompressionError):
            unpacked(damaged, announced)
    with pytest.raises(CompressionError, match="y does not fit its coding"):
        decompress(unpacked(data, size), {"y": Coding(8)})
    with pytest.raises(CompressionError, match="x does not fit its coding"):
        decompress(unpacked(data, size), {"x": Coding(8, rank=2)})
    with pytest.raises(CompressionError, match="bits: 7, there are codes of 8, 16 bits"):
        Coding(7)
