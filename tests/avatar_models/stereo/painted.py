"""Surfaces of known depth with a texture that hangs in space, as calibrated cameras see them: rays meet them in closed form."""

from __future__ import annotations

import numpy as np

from avatar_models.stereo.sweep import View

SIDE, FOCAL, DISTANCE = 96, 230.0, 0.6
K = np.array([[FOCAL, 0, SIDE / 2], [0, FOCAL, SIDE / 2], [0, 0, 1.0]])
Array = np.ndarray


def beside(degrees: float) -> Array:
    """(4, 4) of a camera that looks at the world's origin from DISTANCE, turned about it."""
    a = np.radians(degrees)
    viewmat = np.eye(4)
    viewmat[:3, :3] = [[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]]
    viewmat[2, 3] = DISTANCE
    return viewmat


def texture(points: Array) -> Array:
    """Gray levels of points (..., 3): waves some millimetres long, in all directions."""
    random = np.random.default_rng(3)
    waves = random.normal(size=(24, 3))
    waves *= (2 * np.pi / random.uniform(0.012, 0.04, (24, 1))) / np.linalg.norm(waves, axis=1, keepdims=True)
    phases = random.uniform(0, 2 * np.pi, 24)
    return 0.5 + 0.08 * np.sin(points @ waves.T + phases).sum(-1)


def rays(viewmat: Array) -> tuple[Array, Array]:
    """The camera's centre (3,) and its pixels' rays (SIDE, SIDE, 3) in the world, whose depth is one."""
    y, x = np.mgrid[0:SIDE, 0:SIDE] + 0.5
    in_camera = np.stack([x, y, np.ones_like(x)], -1) @ np.linalg.inv(K).T
    return -viewmat[:3, :3].T @ viewmat[:3, 3], in_camera @ viewmat[:3, :3]


def of_plane(viewmat: Array, normal: Array, offset: float) -> tuple[View, Array]:
    """What a camera sees of the plane normal'X = offset, and the depths of its pixels."""
    centre, ray = rays(viewmat)
    depth = (offset - centre @ normal) / (ray @ normal)
    return _view(viewmat, centre + depth[..., None] * ray, np.ones((SIDE, SIDE), bool)), depth


def of_sphere(viewmat: Array, radius: float) -> tuple[View, Array]:
    """The same of a sphere about the origin; its depths are not finite beside it."""
    centre, ray = rays(viewmat)
    a, b, c = (ray**2).sum(-1), ray @ centre, centre @ centre - radius**2
    within = b**2 - a * c
    with np.errstate(invalid="ignore"):
        depth = (-b - np.sqrt(within)) / a
    mask = within > 0
    return _view(viewmat, centre + np.where(mask, depth, 0)[..., None] * ray, mask), depth


def sphere_normals(viewmat: Array, depth: Array) -> Array:
    """Of what a camera sees of a sphere (SIDE, SIDE, 3), in the camera's frame."""
    centre, ray = rays(viewmat)
    outwards = (centre + depth[..., None] * ray) @ viewmat[:3, :3].T
    return outwards / np.linalg.norm(outwards, axis=-1, keepdims=True)


def _view(viewmat: Array, points: Array, mask: Array) -> View:
    return View(np.where(mask, texture(points), 0).astype(np.float32), mask, K, viewmat)
