"""Registered scans of people: meshes of one topology, each person neutral and with expressions. Points are drawn of them.

N points on the surface, U around the head, P people, X expressions, V vertices, F triangles, A anchors, I identity and E
expression coefficients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avatar_models.heads.nphm.losses import Scans
from avatar_models.heads.skinning import Rig, pose

AROUND_M = 0.25
"""Radius of the ball around the head, metres."""
FRONT_SHARE = 0.75
"""Of the points on the surface, on the front of the face."""
WIDEST_JAW = 0.3
"""Radians."""
MOST_AT_ONCE = 6
"""Coefficients of a random expression that are not zero."""


@dataclass(frozen=True)
class LinearModel:
    """What is needed of a linear head."""

    rig: Rig
    faces: Tensor  # (F, 3)
    skin: Tensor  # (V,) bool: the surface that scans have
    face: Tensor  # (V,) bool: its front
    one_sided: Tensor  # (E,) bool: expressions that go from 0 to 1; others are normal with deviation 1


@dataclass(frozen=True)
class Expressions:
    """X expressions of a linear head, the first of them neutral."""

    coefficients: Tensor  # (X, E)
    jaw: Tensor  # (X, 3) radians

    def __len__(self) -> int:
        return len(self.jaw)


def expressions_of(model: LinearModel, mixtures: int, random: np.random.Generator) -> Expressions:
    """Neutral, each expression alone and full, three openings of the jaw, and random mixtures of up to MOST_AT_ONCE."""
    count = len(model.rig.expression_basis)
    openings = np.linspace(0, WIDEST_JAW, 4)[1:]
    mixed = np.zeros((mixtures, count))
    for row in mixed:
        chosen = random.choice(count, random.integers(2, MOST_AT_ONCE + 1), replace=False)
        one_sided = model.one_sided[chosen].numpy()
        row[chosen] = np.where(one_sided, random.uniform(0, 1, len(chosen)), random.normal(0, 1, len(chosen)))
    jaw = np.zeros((1 + count + len(openings) + mixtures, 3))
    jaw[1 + count : 1 + count + len(openings), 0] = openings
    jaw[1 + count + len(openings) :, 0] = random.uniform(0, WIDEST_JAW, mixtures) * (random.random(mixtures) < 0.5)
    coefficients = np.concatenate([np.zeros((1, count)), np.eye(count), np.zeros((len(openings), count)), mixed])
    return Expressions(torch.from_numpy(coefficients).float(), torch.from_numpy(jaw).float())


class RegisteredScans(Protocol):
    """Meshes of one topology, of people who make faces."""

    @property
    def anchors(self) -> Tensor:
        """(P, A, 3) of each person at rest."""
        ...

    @property
    def num_codes(self) -> int:
        """Codes of expressions, of all people together."""
        ...

    def __len__(self) -> int:
        """People."""
        ...

    def codes_of(self, person: int) -> Sequence[int]:
        """The codes of a person's expressions, that of the neutral one first."""
        ...

    def kept_for_judging(self, person: int) -> int:
        """Which of a person's expressions an unseen person is judged by, beside the neutral one."""
        ...

    def on_surface(
        self, person: int, expression: int, points: int, random: np.random.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Points on a posed surface, their normals, and the same points on the neutral face: (N, 3) each.

        Expressions are counted for each person, and 0 is neutral.
        """
        ...


class LinearScans:
    """Scans of a linear head's people: the head's own surface is the registered mesh."""

    def __init__(self, model: LinearModel, identities: Tensor, expressions: Expressions, anchors: Tensor) -> None:
        """Identities (P, I), anchors (A,) vertices."""
        self.expressions = expressions
        self.people = [model.rig.of(identity) for identity in identities]
        self.faces = model.faces[model.skin[model.faces].all(1)]
        self.anchors = torch.stack([person.template[anchors] for person in self.people])  # (P, A, 3) at rest
        self.reached = reach(model.rig.template, self.faces, model.face)

    def __len__(self) -> int:
        return len(self.people)

    @property
    def num_codes(self) -> int:
        return len(self.expressions)

    def codes_of(self, person: int) -> Sequence[int]:
        """Every expression is everyone's."""
        return range(len(self.expressions))

    def kept_for_judging(self, person: int) -> int:
        """One of the last, the random mixtures, for each."""
        return len(self.expressions) - len(self) + person

    def on_surface(
        self, person: int, expression: int, points: int, random: np.random.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Points on a posed surface, their normals, and the same points on the neutral face: (N, 3) each."""
        chosen, barycentric = on_triangles(self.reached, points, random)
        rig = self.people[person].take(self.faces[torch.from_numpy(chosen)].flatten())  # no more is posed than is seen
        posed, rest = posed_corners(rig, self.expressions, expression), rig.template.unflatten(0, (-1, 3))
        return within(posed, rest, barycentric)


def reach(template: Tensor, faces: Tensor, front: Tensor) -> NDArray[np.float64]:
    """Up to which share of the points each triangle (F,) is reached: by area, FRONT_SHARE of them on the front.

    Vertices (V, 3), triangles (F, 3), and which vertices are on the front (V,).
    """
    corners = template[faces].double()
    area = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).norm(dim=1).numpy() / 2
    of_front = area * front[faces].all(1).numpy()
    return np.cumsum(FRONT_SHARE * of_front / of_front.sum() + (1 - FRONT_SHARE) * area / area.sum())


def on_triangles(reached: NDArray[np.float64], points: int, random: np.random.Generator) -> tuple[NDArray[np.int64], Tensor]:
    """Triangles (N,) and places in them, barycentric (N, 3)."""
    chosen = np.searchsorted(reached, random.random(points) * reached[-1])
    u, v = np.sqrt(random.random(points)), random.random(points)
    return chosen, torch.from_numpy(np.stack([1 - u, u * (1 - v), u * v], 1)).float()


def within(posed: Tensor, rest: Tensor, barycentric: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Places in triangles (N, 3, 3), posed and at rest: where they are, their normals, and where they are at rest."""
    normals = torch.linalg.cross(posed[:, 1] - posed[:, 0], posed[:, 2] - posed[:, 0])
    normals = normals / normals.norm(dim=1, keepdim=True).clamp_min(1e-12)
    surface, at_rest = (torch.einsum("nc,ncd->nd", barycentric, corners) for corners in (posed, rest))
    return surface, normals, at_rest


def draw(scans: RegisteredScans, person: int, expression: int, points: int, around: int, random: np.random.Generator) -> Scans:
    """Points of one scan."""
    surface, normals, rest = scans.on_surface(person, expression, points, random)
    neutral = torch.tensor([expression == 0])
    anchors = scans.anchors[person]
    return Scans(surface[None], normals[None], rest[None], in_ball(around, random)[None], anchors[None], neutral)


def joined(scans: Sequence[Scans]) -> Scans:
    """Several scans in one batch."""
    return Scans(*(torch.cat([getattr(scan, field.name) for scan in scans]) for field in fields(Scans)))


def posed_corners(rig: Rig, expressions: Expressions, which: int) -> Tensor:
    """Triangles (N, 3, 3) of a person's rig whose vertices are their corners."""
    none = torch.zeros(1, 0)
    still = torch.zeros(1, 3)
    one = slice(which, which + 1)
    vertices = pose(rig, none, expressions.coefficients[one], still, expressions.jaw[one], torch.zeros(1, 6))
    return vertices[0].unflatten(0, (-1, 3))


def in_ball(points: int, random: np.random.Generator) -> Tensor:
    """Points (U, 3) that are spread evenly in a ball around the head's origin."""
    directions = random.normal(size=(points, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return torch.from_numpy(AROUND_M * directions * np.cbrt(random.random((points, 1)))).float()
