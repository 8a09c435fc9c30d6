"""Where a neural head has its anchors: vertices of a registered mesh, spread over it, in pairs of both sides."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

MIDDLE_M = 0.004
"""Vertices so close to the plane of symmetry are in the middle, metres."""


FACE = 2.0
"""On the face anchors stand so many times as close as elsewhere."""


def anchor_vertices(template: Tensor, allowed: Tensor, face: Tensor, num_pairs: int, num_middle: int) -> Tensor:
    """Vertices (2 num_pairs + num_middle,): left and right of each pair in turn, then those in the middle.

    Each is the one farthest from those before, among the allowed (V,) bool of a template (V, 3) in metres that is symmetric in x;
    distances in its face (V,) bool count FACE times. Raises ValueError where it has too few vertices.
    """
    places = template.double().numpy()
    mirrored = places * [-1, 1, 1]
    candidates = np.flatnonzero(allowed.numpy() & (places[:, 0] > -MIDDLE_M))
    middle = np.abs(places[candidates, 0]) <= MIDDLE_M
    counted = np.where(face.numpy()[candidates], FACE, 1.0)
    pairs: list[int] = []
    lone: list[int] = []
    distance = np.full(len(candidates), np.inf)
    while len(pairs) < 2 * num_pairs or len(lone) < num_middle:
        open_to = np.where(middle, len(lone) < num_middle, len(pairs) < 2 * num_pairs)
        if not open_to.any() or distance[open_to].max() == 0:
            raise ValueError(f"the mesh has no room for {num_pairs} pairs of anchors and {num_middle} in the middle")
        place = int(np.where(open_to, distance, -1.0).argmax())
        vertex = int(candidates[place])
        found = [vertex] if middle[place] else [vertex, int(np.square(places - mirrored[vertex]).sum(1).argmin())]
        (lone if middle[place] else pairs).extend(found)
        for one in found:
            distance = np.minimum(distance, counted * np.linalg.norm(places[candidates] - places[one], axis=1))
    return torch.tensor(pairs + lone)
