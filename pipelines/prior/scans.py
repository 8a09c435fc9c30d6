"""Registered scans of people: meshes of one topology, each person neutral and with expressions. Points are drawn of them.

B scans, N points on the surface, U around the head, P people, X expressions, V vertices, F triangles, A anchors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avatar_models.heads.nphm.losses import Scans
from avatar_models.heads.skinning import Rig, pose

Array = NDArray[np.float64]

AROUND_M = 0.25
"""Radius of the ball around the head, metres."""
FRONT_SHARE = 0.75
"""Of the points on the surface, on the front of the face."""
WIDEST_JAW = 0.3
"""Radians."""
MOST_AT_ONCE = 6
"""Coefficients of a random expression that are not zero."""


class Model(Protocol):
    """What is needed of a linear head."""

    @property
    def rig(self) -> Rig: ...
    @property
    def faces(self) -> Tensor: ...
    @property
    def masks(self) -> Mapping[str, Tensor]: ...


@dataclass(frozen=True)
class Expressions:
    """X expressions of a linear head, the first of them neutral."""

    coefficients: Tensor  # (X, E)
    jaw: Tensor  # (X, 3) radians

    def __len__(self) -> int:
        return len(self.jaw)


def expressions_of(rig: Rig, one_sided: bool, mixtures: int, seed: int) -> Expressions:
    """Neutral, each expression alone and full, three openings of the jaw, and random mixtures of up to MOST_AT_ONCE."""
    random = np.random.default_rng(seed)
    count = len(rig.expression_basis)
    openings = np.linspace(0, WIDEST_JAW, 4)[1:]
    mixed = np.zeros((mixtures, count))
    for row in mixed:
        chosen = random.choice(count, random.integers(2, MOST_AT_ONCE + 1), replace=False)
        row[chosen] = random.uniform(0, 1, len(chosen)) if one_sided else random.normal(0, 1, len(chosen))
    jaw = np.zeros((1 + count + len(openings) + mixtures, 3))
    jaw[1 + count : 1 + count + len(openings), 0] = openings
    jaw[1 + count + len(openings) :, 0] = random.uniform(0, WIDEST_JAW, mixtures) * (random.random(mixtures) < 0.5)
    coefficients = np.concatenate([np.zeros((1, count)), np.eye(count), np.zeros((len(openings), count)), mixed])
    return Expressions(torch.from_numpy(coefficients).float(), torch.from_numpy(jaw).float())


class LinearScans:
    """Scans of a linear head's people: the head's own surface is the registered mesh."""

    def __init__(self, model: Model, identities: Tensor, expressions: Expressions, anchors: Tensor) -> None:
        """Identities (P, I), anchors (A,) vertices."""
        self.rig, self.expressions = model.rig, expressions
        self.people = [model.rig.of(identity) for identity in identities]
        self.faces = faces_of(model.faces, model.masks["skin"])
        self.anchors = torch.stack([person.template[anchors] for person in self.people])  # (P, A, 3)
        corners = model.rig.template[self.faces].double()
        area = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).norm(dim=1).numpy() / 2
        front = model.masks["face"][self.faces].all(1).numpy()
        self.shares = FRONT_SHARE * _share(area * front) + (1 - FRONT_SHARE) * _share(area)

    def __len__(self) -> int:
        return len(self.people)

    @cached_property
    def _cumulated(self) -> Array:
        return np.cumsum(self.shares)

    def draw(self, people: NDArray[np.int64], expressions: NDArray[np.int64], points: int, around: int, random: np.random.Generator) -> Scans:
        """Points of scans (B,) by person and expression."""
        on = [self.on_surface(int(p), int(x), points, random) for p, x in zip(people, expressions, strict=True)]
        surface, normals, rest = (torch.stack(parts) for parts in zip(*on, strict=True))
        return Scans(
            surface, normals, rest, in_ball(len(people), around, random), self.anchors[torch.from_numpy(people)],
            torch.from_numpy(expressions == 0),
        )  # fmt: skip

    def on_surface(self, person: int, expression: int, points: int, random: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Points on a posed surface, their normals, and the same points on the neutral face: (N, 3) each."""
        triangles = self.faces[torch.from_numpy(np.searchsorted(self._cumulated, random.random(points) * self._cumulated[-1]))]
        u, v = np.sqrt(random.random(points)), random.random(points)
        barycentric = torch.from_numpy(np.stack([1 - u, u * (1 - v), u * v], 1)).float()
        rig = self.people[person].take(triangles.flatten())  # no more vertices are posed than are seen
        posed = posed_corners(rig, self.expressions, expression)
        normals = torch.linalg.cross(posed[:, 1] - posed[:, 0], posed[:, 2] - posed[:, 0])
        normals = normals / normals.norm(dim=1, keepdim=True).clamp_min(1e-12)
        rest = rig.template.unflatten(0, (-1, 3))
        at = [torch.einsum("nc,ncd->nd", barycentric, corners) for corners in (posed, rest)]
        return at[0], normals, at[1]


def posed_corners(rig: Rig, expressions: Expressions, which: int) -> Tensor:
    """Triangles (N, 3, 3) of a person's rig whose vertices are their corners."""
    none = torch.zeros(1, 0)
    still = torch.zeros(1, 3)
    one = slice(which, which + 1)
    vertices = pose(rig, none, expressions.coefficients[one], still, expressions.jaw[one], torch.zeros(1, 6))
    return vertices[0].unflatten(0, (-1, 3))


def in_ball(count: int, points: int, random: np.random.Generator) -> Tensor:
    """Points (B, U, 3) that are spread evenly in a ball around the head's origin."""
    directions = random.normal(size=(count, points, 3))
    directions /= np.linalg.norm(directions, axis=2, keepdims=True)
    return torch.from_numpy(AROUND_M * directions * np.cbrt(random.random((count, points, 1)))).float()


def faces_of(faces: Tensor, mask: Tensor) -> Tensor:
    """The triangles whose corners are all in a mask (V,)."""
    return faces[mask[faces].all(1)]


def _share(weights: Array) -> Array:
    return np.asarray(weights / weights.sum())
