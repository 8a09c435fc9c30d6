"""A person as an avatar shows what the model shows of the photo."""

from __future__ import annotations

import torch

from avatar_models.gagavatar.avatar import OneshotAvatar, avatar_of
from avatar_models.gagavatar.sizes import VARIANTS
from avatar_models.heads.procedural import procedural_head
from avatar_models.heads.skinning import pose
from avatar_models.splatting import splat
from tests.avatar_models.gagavatar.tiny import TINY, VERTICES, cameras, photos, tiny


def test_it_shows_what_the_model_shows_and_comes_back_from_its_tensors() -> None:
    head = procedural_head()
    rig = head.rig.take(torch.linspace(0, len(head.rig.template) - 1, VERTICES).long())
    g = torch.Generator().manual_seed(0)
    identity = 0.5 * torch.randn(head.num_identity, generator=g)
    condition = torch.cat([0.5 * torch.rand(head.num_expression, generator=g), 0.1 * torch.randn(9, generator=g)])
    for variant in ("full", "no_renderer"):
        model = tiny(VARIANTS[variant](TINY))
        with torch.no_grad():
            expression, jaw, eyes = condition[None].split([head.num_expression, 3, 6], 1)
            vertices = pose(rig, identity[None], expression, torch.zeros(1, 3), jaw, eyes)
            wanted, person = model(photos(1), cameras(1), vertices, cameras(2)[1:])
            avatar = avatar_of(model, person, rig, identity)
            for shown in (avatar, OneshotAvatar.from_tensors(avatar.tensors(), model.sizes.as_dict())):
                made = shown.picture(splat(next(shown.each(condition[None])), cameras(2)[1:]).image)
                torch.testing.assert_close(made, wanted.refined.clamp(0, 1), atol=1e-5, rtol=0)
