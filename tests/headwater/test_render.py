"""Frames of a driven video are rendered some at a time, and come out one by one."""

from __future__ import annotations

import numpy as np
import torch

from avatar_models.avatar import render
from avatar_models.headgas import FrozenHeadGas
from headwater.render import TOGETHER, pictures
from tests.avatar_models.headgas.test_inference import cameras, conditions, trained


@torch.no_grad()
def test_each_frame_is_its_own_picture() -> None:
    model, count = trained(degree=1), TOGETHER + 3
    camera, wanted = cameras(count), conditions(count, model)
    found = list(pictures(FrozenHeadGas(model), camera, wanted, 1.0))
    assert len(found) == count
    for index, picture in enumerate(found):
        image = render(model, camera[index : index + 1], wanted[index : index + 1], torch.ones(3))[0]
        assert picture.dtype == np.uint8
        assert np.abs(picture - 255 * image.permute(1, 2, 0).numpy()).max() < 0.51
