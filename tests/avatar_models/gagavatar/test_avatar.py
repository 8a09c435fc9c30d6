"""A person as an avatar shows what the model shows of the photo, and is an avatar like any other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn.functional import avg_pool2d

from avatar_models.avatar import avatar_files, load_avatar, render
from avatar_models.cameras import resized
from avatar_models.gagavatar.avatar import OneshotAvatar, avatar_of
from avatar_models.gagavatar.photo_colors import Photos
from avatar_models.gagavatar.sizes import VARIANTS
from avatar_models.heads.procedural import procedural_head
from avatar_models.heads.skinning import pose
from avatar_models.splatting import splat
from tests.avatar_models.gagavatar.tiny import SIDE, TINY, VERTICES, cameras, photos, shown, tiny


def test_it_shows_what_the_model_shows_and_comes_back_from_its_tensors() -> None:
    head = procedural_head()
    rig = head.rig.take(torch.linspace(0, len(head.rig.template) - 1, VERTICES).long())
    g = torch.Generator().manual_seed(0)
    identity = 0.5 * torch.randn(head.num_identity, generator=g)
    condition = torch.cat([0.5 * torch.rand(head.num_expression, generator=g), 0.1 * torch.randn(9, generator=g)])
    for sizes in (replace(TINY, photo_colors=True), VARIANTS["no_renderer"](TINY)):
        model = tiny(sizes)
        with torch.no_grad():
            expression, jaw, eyes = condition[None].split([head.num_expression, 3, 6], 1)
            vertices = pose(rig, identity[None], expression, torch.zeros(1, 3), jaw, eyes)
            wanted, person = model(Photos(photos(1), cameras(1), vertices), vertices, cameras(2)[1:])
            avatar = avatar_of(model, person, rig, identity)
            for kept in (avatar, OneshotAvatar.from_tensors(avatar.tensors(), model.sizes.as_dict())):
                made = kept.picture(splat(next(kept.each(condition[None])), cameras(2)[1:]).image)
                torch.testing.assert_close(made, wanted.refined.clamp(0, 1), atol=1e-5, rtol=0)


def test_it_is_kept_and_rendered_like_any_avatar_at_any_size(tmp_path: Path) -> None:
    head, model = procedural_head(), tiny()
    rig = head.rig.take(torch.arange(VERTICES))
    with torch.no_grad():
        avatar = avatar_of(model, model.person(shown(1)), rig, torch.zeros(head.num_identity))
    for name, data in avatar_files("gagavatar", avatar.tensors(), {"sizes": model.sizes.as_dict()}).items():
        (tmp_path / name).write_bytes(data)
    loaded, facts = load_avatar(tmp_path)
    assert facts["method"] == "gagavatar"
    conditions, views, black = 0.2 * torch.rand(3, loaded.condition_size), cameras(3), torch.zeros(3)
    own = render(loaded, views, conditions, black)
    for index, made in enumerate(own):
        view = views[index : index + 1]
        wanted = avatar.picture(splat(avatar.gaussians(conditions[index]), view).image)
        torch.testing.assert_close(made[None], wanted, atol=1e-5, rtol=0)
    # A renderer draws at one size: what is asked for at another is the same picture, resampled.
    larger = render(loaded, resized(views, 2 * SIDE, 2 * SIDE), conditions, black)
    assert larger.shape == (3, 3, 2 * SIDE, 2 * SIDE)
    torch.testing.assert_close(avg_pool2d(larger, 2), own, atol=0.05, rtol=0)
    with pytest.raises(ValueError, match="drawn over black"):
        render(loaded, views, conditions, torch.ones(3))
