"""What the published weights expect of the code, and what new training does instead.

The released code differs from its paper in three places, and its weights were trained so. A setting says what is done in each.
B photos, P patches, H channels, N Gaussians.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

RGB = 3
"""The first channels of a Gaussian's colours are what the coarse picture shows, and lie in [0, 1]."""


BLACK = 0.01
"""The darkest colour that another starts from, and one less the lightest: further out a sigmoid learns nothing."""


@dataclass(frozen=True)
class Setting:
    """Three choices."""

    name: str
    global_feature: Callable[[Tensor, Tensor], Tensor]
    """CLS token (B, H) and patch tokens (B, P, H) -> F_id (B, H)."""
    lifted_colors: Callable[[Tensor], Tensor]
    """Channels (B, C, S, S) of the lifted Gaussians' colours -> the same, activated."""
    vertex_quats: Callable[[Tensor], Tensor]
    """Raw quaternions (B, V, 4) of the Gaussians on vertices -> those that turn them."""


def activated(colors: Tensor, dim: int) -> Tensor:
    """The first three channels along dim through a sigmoid, the others as they are."""
    rgb, rest = colors.split([RGB, colors.shape[dim] - RGB], dim)
    return torch.cat([torch.sigmoid(rgb), rest], dim)


FIXED = Setting(
    "fixed",
    global_feature=lambda cls, patches: cls,
    lifted_colors=lambda colors: activated(colors, 1),
    vertex_quats=lambda quats: normalize(quats, dim=2),
)
"""As the paper has it: the default of new training."""

RELEASED = Setting(
    "released",
    global_feature=lambda cls, patches: patches[:, 0],  # the picture's top left corner
    lifted_colors=lambda colors: activated(colors, 3),  # all channels of the leftmost three columns
    vertex_quats=lambda quats: normalize(quats, dim=1),  # each component over the vertices: close to no rotation
)
"""As the released code computes, which its weights need."""

SETTINGS = {setting.name: setting for setting in (FIXED, RELEASED)}
