"""A smaller avatar shows the same: exactly where nothing is left out, and nearest where something is."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from avatar_models.avatar import (
    COMPRESSED_TENSORS,
    FACTS,
    AvatarError,
    avatar_files,
    compressed_avatar_files,
    load_avatar,
    read_avatar,
    render,
)
from avatar_models.headgas import VARIANTS, HeadGas, Smaller, smaller
from avatar_models.headgas.smaller import along_curve, in_order, narrowed, with_locality_in_basis, with_unit_quaternions
from avatar_models.rotations import quaternion_to_matrix
from tests.avatar_models.headgas.test_inference import ODD, cameras, conditions, trained


def rigged() -> HeadGas:
    """A trained avatar that rides on a surface which moves more on one side."""
    model, g = trained(degree=1, variant="rigged"), torch.Generator().manual_seed(5)
    far = torch.linspace(0, 1, len(model.mu))[:, None]
    model.ride_on(0.004 * far * torch.randn(model.condition_size, len(model.mu), 3, generator=g))
    return model


def written(folder: Path, model: HeadGas, options: Smaller) -> Path:
    made, codings = smaller(model, options)
    folder.mkdir(exist_ok=True)
    for name, data in compressed_avatar_files("headgas", made.tensors(), {"sizes": made.sizes_as_dict()}, codings).items():
        (folder / name).write_bytes(data)
    return folder


@torch.no_grad()
def test_locality_goes_into_the_basis() -> None:
    model = rigged()
    made, condition = with_locality_in_basis(model), conditions(1, model)[0]
    assert model.locality.min() < 0.5 and torch.equal(made.locality, torch.ones(len(model.mu)))
    assert torch.allclose(made.gaussians(condition).colors, model.gaussians(condition).colors, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("variant", VARIANTS)
def test_quaternions_of_length_one_turn_alike(variant: str) -> None:
    model, g = trained(degree=1, variant=variant), torch.Generator().manual_seed(7)
    model.quats.copy_(torch.randn(len(model.mu), 4, generator=g) * torch.rand(len(model.mu), 1, generator=g) * 3)
    for condition in conditions(2, model):
        found, wanted = (of.gaussians(condition).quats for of in (with_unit_quaternions(model), model))
        assert torch.allclose(quaternion_to_matrix(found), quaternion_to_matrix(wanted), atol=1e-4)


@torch.no_grad()
def test_one_long_quaternion_costs_the_others_no_precision(tmp_path: Path) -> None:
    model = trained(degree=1)
    model.quats.copy_(torch.randn(len(model.mu), 4, generator=torch.Generator().manual_seed(7)))
    model.quats[3] *= 1000.0
    loaded, _ = load_avatar(written(tmp_path, model, Smaller(bits=8)))
    found = quaternion_to_matrix(loaded.gaussians(model.neutral).quats)
    wanted = quaternion_to_matrix(model.quats)[along_curve(model.mu)]
    assert (found - wanted).abs().max() < 0.03  # 8 bits: half a step is 1 / 254


def test_the_curve_goes_through_a_cube_corner_by_corner() -> None:
    corners = torch.tensor([[x, y, z] for z in (0.0, 1) for y in (0.0, 1) for x in (0.0, 1)])
    shuffled = torch.randperm(8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(corners[shuffled][along_curve(corners[shuffled])], corners)


@torch.no_grad()
def test_order_changes_no_gaussian() -> None:
    model = rigged()
    order, condition = along_curve(model.mu), conditions(1, model)[0]
    found, wanted = in_order(model).gaussians(condition), model.gaussians(condition)
    for name in ("means", "quats", "scales", "opacities", "colors"):
        assert torch.allclose(getattr(found, name), getattr(wanted, name)[order], atol=1e-6), name


@torch.no_grad()
def test_features_that_depend_on_others_can_go() -> None:
    model = trained(degree=1)  # 5 features
    mixed = torch.randn(2, 5, generator=torch.Generator().manual_seed(6))
    model.f0.copy_(model.f0[:, :2] @ mixed + 0.3)
    model.F.copy_((model.F.reshape(-1, 5)[:, :2] @ mixed).reshape(model.F.shape))
    made = narrowed(model, 2)
    assert made.F.shape[1] == 2 * len(model.mu) and made.sizes.feature_dim == 2
    for condition in conditions(3, model):
        assert torch.allclose(made.gaussians(condition).colors, model.gaussians(condition).colors, atol=1e-5)


@torch.no_grad()
def test_what_is_left_out_of_the_mlps_input_is_the_least() -> None:
    model = trained(degree=1)
    W = model.phi[0].weight[:, :5].double().numpy()  # type: ignore[index,union-attr]
    f0, F = model.f0.double().numpy(), model.F.double().reshape(-1, 5).numpy()
    seen = np.concatenate([f0 - f0.mean(0), F]) @ W.T
    left_out = np.linalg.svd(seen, compute_uv=False)[3:]
    made = narrowed(model, 3)
    narrow_W = made.phi[0].weight[:, :3].double().numpy()  # type: ignore[index,union-attr]
    found = np.concatenate([made.f0.double().numpy(), made.F.double().reshape(-1, 3).numpy()]) @ narrow_W.T
    assert np.square(found - seen).sum() == pytest.approx(np.square(left_out).sum(), rel=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_is_read_back_from_its_compressed_file(variant: str, tmp_path: Path) -> None:
    model = trained(replace(ODD, feature_dim=6), degree=1, variant=variant)
    wanted, camera = conditions(3, model), cameras(3)
    loaded, facts = load_avatar(written(tmp_path, model, Smaller(features=0, rank=0, bits=16)))
    assert facts["sizes"]["variant"] == variant and facts["format"] == 3
    found, before = (render(avatar, camera, wanted, torch.ones(3)) for avatar in (loaded, model))
    assert (found - before).abs().max() < 0.01  # splatting leaves out what covers less than 1 / 255


@torch.no_grad()
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_can_be_made_smaller(variant: str, tmp_path: Path) -> None:
    model = trained(replace(ODD, feature_dim=6), degree=1, variant=variant)
    folder = written(tmp_path, model, Smaller(features=2, rank=4, bits=8))
    loaded, _ = load_avatar(folder)
    assert torch.isfinite(loaded.gaussians(model.neutral).colors).all()
    plain = avatar_files("headgas", model.tensors(), {"sizes": model.sizes_as_dict()})
    assert 4 * (folder / COMPRESSED_TENSORS).stat().st_size < len(plain["avatar.safetensors"])


def test_the_same_avatar_gives_the_same_bytes(tmp_path: Path) -> None:
    folders = [written(tmp_path / name, rigged(), Smaller()) for name in ("a", "b")]
    for name in (COMPRESSED_TENSORS, FACTS):
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()


def test_a_damaged_compressed_avatar_is_named(tmp_path: Path) -> None:
    folder = written(tmp_path, rigged(), Smaller())
    facts, data = json.loads((folder / FACTS).read_text()), (folder / COMPRESSED_TENSORS).read_bytes()
    (folder / COMPRESSED_TENSORS).write_bytes(data[:-20])
    with pytest.raises(AvatarError, match="compressed avatar is damaged.*headwater compress"):
        read_avatar(folder)
    (folder / COMPRESSED_TENSORS).unlink()
    with pytest.raises(AvatarError, match=r"avatar\.safetensors\.z is missing"):
        read_avatar(folder)
    (folder / COMPRESSED_TENSORS).write_bytes(data)
    for damaged in ({"codings": {}}, {**facts["compression"], "codings": {"F": {"bits": 3}}}, "none"):
        (folder / FACTS).write_text(json.dumps({**facts, "compression": damaged}))
        with pytest.raises(AvatarError, match="compressed avatar is damaged"):
            read_avatar(folder)
    (folder / FACTS).write_text(json.dumps({**facts, "format": 4}))
    with pytest.raises(AvatarError, match="avatar format 4, this code reads 2 and, compressed, 3"):
        read_avatar(folder)
