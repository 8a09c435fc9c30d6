"""Where an avatar's Gaussians start: on the fitted head, and in the hull of the mattes where the head model has nothing."""

from __future__ import annotations

import numpy as np
import torch

from avatar_models.cameras import Camera, project
from avatar_models.heads.interface import Head
from pipelines.params import TrainHeadgas
from pipelines.subject import Shots

HEAD_SHARE = 0.6
"""Share of the first points that lie on the fitted head; the others fill the matte's hull: hair, neck, shoulders."""
HULL_VIEWS = 24


def first_points(
    options: TrainHeadgas, shots: Shots, head: Head, identity: torch.Tensor, level: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Where the Gaussians start (N, 3), in the head's frame, and their colours (N, 3) in [0, 1].

    On the fitted head's surface, and inside the hull of the mattes where the head model has nothing.
    """
    rng = np.random.default_rng(options.seed)
    views = np.unique(np.linspace(0, len(shots) - 1, HULL_VIEWS).astype(int))
    camera = shots.camera[torch.from_numpy(views)]
    on_head = surface_points(head, identity, round(options.num_gaussians * HEAD_SHARE), rng)
    hull = hull_points(shots, camera, views, options.num_gaussians - len(on_head), on_head, rng)
    points = torch.cat([on_head, hull])
    colors, _ = sampled_colors(shots, camera, views, points, level)
    return points, colors


def surface_points(head: Head, identity: torch.Tensor, count: int, rng: np.random.Generator) -> torch.Tensor:
    """Points (count, 3) spread evenly over the neutral head's surface."""
    zero = torch.zeros(1, head.num_expression), torch.zeros(1, 3), torch.zeros(1, 3), torch.zeros(1, 6)
    return evenly_on(head.vertices(identity[None].float(), *zero)[0][head.faces], count, rng)


def evenly_on(corners: torch.Tensor, count: int, rng: np.random.Generator) -> torch.Tensor:
    """Points (count, 3) spread evenly over triangles of corners (F, 3, 3)."""
    area = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).norm(dim=1).double().numpy()
    face = torch.from_numpy(rng.choice(len(area), size=count, p=area / area.sum()))
    u, v = rng.random((2, count)).astype(np.float32)
    inside = u + v > 1
    u, v = torch.from_numpy(np.where(inside, 1 - u, u)), torch.from_numpy(np.where(inside, 1 - v, v))
    a, b, c = corners[face].unbind(1)
    return a + u[:, None] * (b - a) + v[:, None] * (c - a)


def hull_points(
    shots: Shots, camera: Camera, views: np.ndarray, count: int, around: torch.Tensor, rng: np.random.Generator
) -> torch.Tensor:
    """Points (count, 3) near the head that lie in the matte of nearly every view: hair, neck, shoulders."""
    low, high = around.amin(0), around.amax(0)
    margin = (high - low) * 0.5
    found: list[torch.Tensor] = []
    total = 0
    for _ in range(50):
        trial = torch.from_numpy(rng.random((4096, 3)).astype(np.float32)) * (high - low + 2 * margin) + low - margin
        _, matte = sampled_colors(shots, camera, views, trial, 0.0)
        kept = trial[matte > 0.85]
        found.append(kept)
        total += len(kept)
        if total >= count:
            return torch.cat(found)[:count]
    # An empty matte: the head itself is all there is to start from.
    return torch.cat([*found, around[: count - total]])[:count]


def sampled_colors(
    shots: Shots, camera: Camera, views: np.ndarray, points: torch.Tensor, level: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean colour (N, 3) in [0, 1] and mean matte (N,) of points (N, 3) over the views; outside of a picture nothing."""
    pixels = project(points[None], camera).floor().long()  # (V, N, 2)
    inside = ((pixels >= 0) & (pixels < camera.width)).all(-1)
    x, y = pixels.clamp(0, camera.width - 1).unbind(-1)
    rows = torch.arange(len(views))[:, None]
    images, mattes = torch.from_numpy(shots.images[views]), torch.from_numpy(shots.mattes[views])
    inside &= torch.from_numpy(shots.known[views])[rows, y, x]
    alpha = mattes[rows, y, x].float() / 255 * inside
    colour = images[rows, y, x].float() / 255
    weight = alpha.sum(0)[:, None]
    mean = (colour * alpha[..., None]).sum(0) / weight.clamp_min(1e-6)
    return torch.where(weight > 1e-3, mean, torch.full_like(mean, level)), alpha.sum(0) / inside.sum(0).clamp_min(1)
