"""The forward field and its planes, each against its definition, and their file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from avatar_models.heads.nphm.forward import ForwardField, ForwardSizes, TriPlanes, total_variation
from avatar_models.heads.nphm.forward_storage import forward_files, read_forward
from avatar_models.model_folder import ModelError
from tests.avatar_models.heads.nphm.tiny import points

SIZES = ForwardSizes(expression_code=5, feature_dim=3, hidden=8, layers=3, plane_size=5, plane_reach=0.2)


def test_nothing_moves_before_it_is_trained() -> None:
    field, planes = ForwardField(SIZES), TriPlanes(SIZES, 2)
    x = points(2, 10)
    assert not field(x, planes(x, torch.tensor([1, 0])), torch.randn(2, 5)).any()


def test_a_point_has_the_sum_of_what_lies_below_it_on_three_planes() -> None:
    """Values that are linear along a plane are met exactly between its places too."""
    planes = TriPlanes(SIZES, 2)
    along = torch.linspace(-1, 1, SIZES.plane_size)
    second, first = torch.meshgrid(along, along, indexing="ij")  # the first coordinate runs along a row
    with torch.no_grad():
        planes.planes.zero_()
        planes.planes[1, :, 0] = torch.stack([first + 10 * second, 2 * first + 20 * second, 3 * first + 30 * second])
    x = torch.tensor([[[0.02, -0.05, 0.11], [0.2, 0.2, -0.2]]])
    u, v, w = (x / SIZES.plane_reach).unbind(2)
    wanted = (u + 10 * v) + (2 * u + 20 * w) + (3 * v + 30 * w)
    torch.testing.assert_close(planes(x, torch.tensor([1]))[..., 0], wanted)
    assert not planes(x, torch.tensor([0])).any()
    beyond = planes(torch.tensor([[[0.9, 0.0, 0.0]]]), torch.tensor([1]))
    torch.testing.assert_close(beyond, planes(torch.tensor([[[0.2, 0.0, 0.0]]]), torch.tensor([1])))


def test_variation_is_the_mean_squared_step_between_neighbours() -> None:
    planes = torch.zeros(1, 3, 1, 4, 4)
    planes[..., 2:] = 0.5  # one step of a half in each row, of three
    torch.testing.assert_close(total_variation(planes), torch.tensor(0.25 / 3))


def test_it_comes_back_from_its_file_and_knows_its_prior(tmp_path: Path) -> None:
    field, planes = ForwardField(SIZES), TriPlanes(SIZES, 2)
    torch.nn.init.normal_(field.layers[-1].weight)
    for name, data in forward_files(field, planes, ["ada", "ben"], "a" * 64, {"held_out_mm": 0.3}).items():
        (tmp_path / name).write_bytes(data)
    found = read_forward(tmp_path)
    x, who, z = points(2, 4), torch.tensor([0, 1]), torch.randn(2, 5)
    assert torch.equal(found.field(x, found.planes(x, who), z), field(x, planes(x, who), z))
    assert found.people == ["ada", "ben"] and found.facts["held_out_mm"] == 0.3
    found.expect_prior("a" * 64, tmp_path)
    with pytest.raises(ModelError, match="distilled from another prior .*run `dvc repro distill_forward`"):
        found.expect_prior("b" * 64, tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(ModelError, match="damaged"):
        read_forward(tmp_path)
