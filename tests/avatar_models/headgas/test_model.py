"""HeadGaS: the paper's equations, saving and loading."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from avatar_models.avatar import AvatarError, avatar_files, load_avatar, read_avatar
from avatar_models.headgas import HeadGas, HeadGasSizes, nearest_distances

SIZES = HeadGasSizes(num_gaussians=20, condition_size=5, feature_dim=4, hidden_dim=8, sh_degree=1, position_frequencies=2)


def model() -> HeadGas:
    torch.manual_seed(0)
    made = HeadGas(SIZES)
    made.initialise(torch.rand(20, 3) * 0.2, torch.rand(20, 3), torch.rand(7, 5))
    return made


def test_it_starts_still_and_in_the_given_colours() -> None:
    avatar = model()
    first, second = (avatar.gaussians(condition) for condition in (torch.zeros(5), torch.ones(5)))
    assert torch.equal(first.colors, second.colors)  # F is zero: no expression matters yet
    assert first.opacities.tolist() == pytest.approx([0.5] * 20)


def test_features_are_blended_as_in_equation_3() -> None:
    avatar = model()
    with torch.no_grad():
        avatar.F.normal_()
        avatar.phi[2].weight.normal_()
    condition = torch.rand(5)
    e = (condition - avatar.neutral) / avatar.spread
    F = avatar.F.reshape(5, 20, 4)
    blended = torch.stack([sum(e[b] * F[b, n] for b in range(5)) + avatar.f0[n] for n in range(20)])
    out = avatar.phi(torch.cat([blended, *avatar.psi(avatar.mu)], 1)) + avatar.base
    found = avatar.gaussians(condition)
    assert torch.allclose(found.opacities, torch.sigmoid(out[:, -1]), atol=1e-6)
    assert torch.allclose(found.colors, out[:, :-1].reshape(20, 4, 3), atol=1e-5)


def test_the_gradient_of_the_basis_is_an_outer_product() -> None:
    avatar = model()
    with torch.no_grad():
        avatar.phi[2].weight.normal_()
    condition = torch.rand(5)
    avatar.gaussians(condition).colors.square().sum().backward()
    e = (condition - avatar.neutral) / avatar.spread
    assert torch.allclose(avatar.F.grad, e[:, None] * avatar.f0.grad.flatten()[None], rtol=1e-4, atol=1e-6)  # type: ignore[union-attr]


def test_a_saved_avatar_comes_back_and_is_the_same_bytes(tmp_path: Path) -> None:
    avatar = model()
    facts = {"sizes": avatar.sizes_as_dict()}
    files = avatar_files("headgas", avatar.tensors(), facts)
    assert files == avatar_files("headgas", avatar.tensors(), facts)
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    loaded, _ = load_avatar(tmp_path)
    condition = torch.rand(5)
    assert torch.allclose(loaded.gaussians(condition).colors, avatar.gaussians(condition).colors, atol=1e-6)


def test_a_damaged_avatar_is_named(tmp_path: Path) -> None:
    with pytest.raises(AvatarError, match="avatar.json is missing"):
        read_avatar(tmp_path)
    avatar = model()
    for name, data in avatar_files("headgas", avatar.tensors(), {"sizes": avatar.sizes_as_dict()}).items():
        (tmp_path / name).write_bytes(data[: len(data) // 2] if name.endswith("safetensors") else data)
    with pytest.raises(AvatarError, match="damaged"):
        read_avatar(tmp_path)


def test_nearest_distances_of_a_grid_are_its_spacing() -> None:
    grid = torch.stack(torch.meshgrid(*[torch.arange(4.0)] * 3, indexing="ij"), -1).reshape(-1, 3)
    assert nearest_distances(grid, chunk=7).tolist() == pytest.approx([1.0] * 64)
