"""Clouds of points of what a performance's linear head looked like: for clips of one camera.

F steps, N points. Metres, in the linear head's frame.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from avatar_models.heads.interface import Head
from pipelines.nphm_tracks.performances import Performance
from pipelines.prior.scans import Expressions, LinearModel, LinearScans

POINTS = 1500
"""Of each frame, three of four on the front of the face."""

SomeClouds = tuple[list[Tensor], list[Tensor] | None]
"""Points (N, 3) of each step, none where nothing is known, and their normals where there are some of every point."""


def clouds_of(head: Head, performance: Performance, seed: int) -> SomeClouds:
    """Points on the skin, with normals."""
    skin = head.masks["skin"]
    model = LinearModel(head.rig, head.faces, skin, head.masks.get("face", skin), torch.ones(head.num_expression))
    expressions = Expressions(performance.expression, performance.jaw)
    scans = LinearScans(model, performance.identity[None], expressions, torch.zeros(0, dtype=torch.int64))
    found = [scans.on_surface(0, step, POINTS, np.random.default_rng((seed, step))) for step in range(len(performance))]
    return [points for points, _, _ in found], [normals for _, normals, _ in found]


def landmarks_of(head: Head, performance: Performance) -> Tensor:
    """The detector's points (F, 478, 3) on the linear head's surface."""
    return torch.cat([head.landmarks(performance.vertices(head, step)[None]) for step in range(len(performance))])
