"""What moves the Gaussians, attribute by attribute, and what is drawn of them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from avatar_models.avatar import avatar_files, load_avatar, render
from avatar_models.heads.nphm.forward import OFFSET_M
from avatar_models.npga import VARIANTS, NpgaSizes
from avatar_models.rotations import quaternion_to_matrix
from tests.avatar_models.npga.made import FIELD, SIZES, avatar, camera


def test_before_training_the_distilled_field_moves_the_gaussians_and_nothing_else_changes() -> None:
    model, z = avatar(), torch.randn(4)
    moved = model.moved(z)
    wanted = model.F(model.mu[None], model.features[None], z[None])[0]
    assert wanted.norm(dim=1).mean() > 1e-4
    torch.testing.assert_close(moved.gaussians.means, model.mu + wanted)
    torch.testing.assert_close(moved.gaussians.scales, model.log_scales.exp())
    torch.testing.assert_close(moved.gaussians.quats, model.quats)
    torch.testing.assert_close(moved.gaussians.colors, model.channels)


def test_each_attribute_changes_by_its_own_operation() -> None:
    """The last layer's bias is what G says of all Gaussians alike."""
    model, z = avatar(), torch.zeros(4)
    still = model.moved(z).gaussians
    said = torch.tensor([0.5, 0, 0, 0, 0, 2.0, 0.1, 0.2, 0.3, 1.0, 0.1, 0.0, -0.1, 0.4, 0.5])
    with torch.no_grad():
        model.G[-1].bias.copy_(said)
    moved = model.moved(z)
    found = moved.gaussians
    torch.testing.assert_close(found.means - still.means, OFFSET_M * torch.tensor([0.5, 0, 0]).expand(60, 3))
    torch.testing.assert_close(found.scales, still.scales * torch.tensor([0.1, 0.2, 0.3]).exp())
    torch.testing.assert_close(found.opacities, torch.sigmoid(model.logits + 1.0))
    torch.testing.assert_close(found.colors - still.colors, torch.tensor([0.1, 0.0, -0.1, 0.4, 0.5]).expand(60, 5))
    angle = 2 * torch.atan(torch.tensor(0.2))  # a tenth of two radians is the half angle's tangent
    turn = torch.tensor([[angle.cos(), -angle.sin(), 0], [angle.sin(), angle.cos(), 0], [0, 0, 1]])
    torch.testing.assert_close(quaternion_to_matrix(found.quats), turn @ quaternion_to_matrix(still.quats))
    assert set(moved.detail) == {"mu", "quats", "log_scales", "logits", "colors", "latents"}


def test_variants_are_what_they_are_called() -> None:
    rigged, plain = avatar("rigged"), avatar("no_screen")
    assert not list(rigged.G.parameters()) and rigged.moved(torch.ones(4)).detail == {}
    assert plain.screen is None and plain.channels.shape[1] == 3
    assert plain.draw(plain.gaussians(torch.zeros(13)), camera(), torch.ones(3)).shape == (1, 3, 32, 32)
    vanilla = avatar("vanilla")
    assert vanilla.G[0].in_features == plain.G[0].in_features - FIELD.feature_dim and vanilla.screen is None


def test_an_untrained_network_on_the_picture_changes_nothing_and_the_background_is_the_colours_alone() -> None:
    model = avatar()
    splats = model.splatted(model.gaussians(torch.zeros(13)), camera(), torch.tensor([0.2, 0.4, 0.6]))
    assert torch.equal(model.refined(splats.image), splats.image[:, :3])
    assert splats.image[0, :, 0, 0].tolist() == pytest.approx([0.2, 0.4, 0.6, 0.0, 0.0])


@pytest.mark.parametrize("variant", VARIANTS)
def test_all_weights_learn(variant: str) -> None:
    model = avatar(variant)
    parts = [model.G[-1], *([] if model.screen is None else [model.screen.layers[-1]])] if len(model.G) else []
    for part in parts:
        torch.nn.init.normal_(part.weight, std=0.1)
    image = model.splatted(model.moved(torch.randn(4)).gaussians, camera(), torch.ones(3)).image
    (model.refined(image).square().sum() + image.square().sum()).backward()
    still = [] if model.sizes.features else ["features"]
    assert [name for name, weight in model.named_parameters() if weight.grad is None] == still


def test_it_is_kept_and_rendered_like_any_avatar(tmp_path: Path) -> None:
    model = avatar()
    for name, data in avatar_files("npga", model.tensors(), {"sizes": model.sizes.as_dict()}).items():
        (tmp_path / name).write_bytes(data)
    loaded, facts = load_avatar(tmp_path)
    assert facts["method"] == "npga" and loaded.condition_size == 4 + 9
    conditions, views = torch.randn(2, 13), camera()
    views = dataclasses.replace(views, K=views.K.repeat(2, 1, 1), viewmat=views.viewmat.repeat(2, 1, 1))
    with torch.no_grad():
        wanted = [model.draw(model.gaussians(condition), camera(), torch.ones(3))[0] for condition in conditions]
    torch.testing.assert_close(render(loaded, views, conditions, torch.ones(3)), torch.stack(wanted).clamp(0, 1))


def test_sizes_survive_json() -> None:
    assert NpgaSizes.from_dict(json.loads(json.dumps(SIZES.as_dict()))) == SIZES
    assert SIZES.field == FIELD
