"""NPHM's registrations as scans: {subject}/{expression}/registration.ply, meshes of one topology in a frame of FLAME's.

The dataset's lengths are quarters of a metre. Which of a subject's expressions is neutral, with a closed mouth, is in
neutrals_closed.json of the released code, where that lies in the folder; else it is the one of the lowest number.
P people, X expressions of one of them, V vertices, F triangles, A anchors, N points.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avatar_models.heads.nphm.model import UNITS
from avatar_models.ply import read_mesh
from pipelines.heads import HeadError
from pipelines.prior.scans import on_triangles, reach, within

REGISTRATION, NEUTRALS = "registration.ply", "neutrals_closed.json"
KEPT = 256
"""Meshes in memory, 400 kB each."""


@dataclass(frozen=True)
class RegisteredPerson:
    """A subject's meshes, the neutral one first."""

    name: str
    files: tuple[Path, ...]


@dataclass(frozen=True)
class Topology:
    """What all meshes share."""

    template: Tensor  # (V, 3) the mean of neutral faces, metres
    faces: Tensor  # (F, 3)
    front: Tensor  # (V,) bool: what looks ahead in the template


def read_people(folder: Path) -> list[RegisteredPerson]:
    """The subjects of a folder with a neutral registration, by their numbers. Raises HeadError where there is none."""
    neutrals = read_neutrals(folder)
    found = []
    for subject in numbered(folder):
        scans = {int(path.name): path / REGISTRATION for path in numbered(subject) if (path / REGISTRATION).is_file()}
        neutral = neutrals.get(int(subject.name), min(scans, default=-1))
        if neutral in scans:
            files = (scans[neutral], *(file for number, file in scans.items() if number != neutral))
            found.append(RegisteredPerson(subject.name, files))
    if not found:
        raise HeadError(f"{folder}: holds no SUBJECT/EXPRESSION/{REGISTRATION}, with numbers as names of both folders")
    return found


def read_neutrals(folder: Path) -> dict[int, int]:
    """Numbers of neutral expressions by subject; below zero where it has none. Raises HeadError."""
    path = folder / NEUTRALS
    if not path.exists():
        return {}
    try:
        return {int(subject): int(expression) for subject, expression in json.loads(path.read_text()).items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise HeadError(f"{path}: not a table of expressions by subject ({error})") from None


def numbered(folder: Path) -> list[Path]:
    """The folders in it that are called by a number, in order."""
    return sorted((path for path in folder.iterdir() if path.is_dir() and path.name.isdigit()), key=lambda path: int(path.name))


@lru_cache(maxsize=KEPT)
def read_registration(path: Path) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Vertices (V, 3) in metres, and triangles. Raises HeadError."""
    try:
        vertices, faces = read_mesh(path)
    except (OSError, ValueError) as error:
        raise HeadError(str(error)) from None
    return vertices / np.float32(UNITS), faces


def topology_of(people: Sequence[RegisteredPerson]) -> Topology:
    """Of people's neutral faces. Raises HeadError where they do not have the same triangles."""
    first, faces = read_registration(people[0].files[0])
    total = np.zeros(first.shape, np.float64)
    for person in people:
        vertices, own = read_registration(person.files[0])
        if len(vertices) != len(first) or not np.array_equal(own, faces):
            raise HeadError(f"{person.files[0]}: its triangles are not those of {people[0].files[0]}; registrations share them")
        total += vertices
    template = torch.from_numpy(total / len(people)).float()
    triangles = torch.from_numpy(faces)
    corners = template[triangles]
    ahead = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])[:, 2] > 0
    front = torch.zeros(len(template), dtype=torch.bool)
    front[triangles[ahead].flatten()] = True
    return Topology(template, triangles, front)


class MeshScans:
    """Scans of some people; a :class:`pipelines.prior.scans.RegisteredScans`. Each scan has a code of expression of its own."""

    def __init__(self, topology: Topology, people: Sequence[RegisteredPerson], anchors: Tensor) -> None:
        """Anchors (A,) vertices. Raises HeadError for meshes that cannot be read."""
        self.topology, self.people = topology, list(people)
        ends = np.cumsum([len(person.files) for person in people])
        self.codes = [range(end - len(person.files), end) for person, end in zip(people, ends.tolist(), strict=True)]
        self.anchors = torch.stack([self.vertices(person, 0)[anchors] for person in range(len(people))])
        self.reached = reach(topology.template, topology.faces, topology.front)

    def __len__(self) -> int:
        return len(self.people)

    @property
    def num_codes(self) -> int:
        return self.codes[-1].stop

    def codes_of(self, person: int) -> Sequence[int]:
        return self.codes[person]

    def kept_for_judging(self, person: int) -> int:
        """The last one; the neutral one of whoever has no other."""
        return len(self.codes[person]) - 1

    def vertices(self, person: int, expression: int) -> Tensor:
        """(V, 3) metres. Raises HeadError for a mesh that is not one of the others' topology."""
        path = self.people[person].files[expression]
        vertices, _ = read_registration(path)
        if len(vertices) != len(self.topology.template):
            raise HeadError(f"{path}: has {len(vertices)} vertices, the others have {len(self.topology.template)}")
        return torch.from_numpy(vertices)

    def on_surface(
        self, person: int, expression: int, points: int, random: np.random.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        chosen, barycentric = on_triangles(self.reached, points, random)
        corners = self.topology.faces[torch.from_numpy(chosen)]
        return within(self.vertices(person, expression)[corners], self.vertices(person, 0)[corners], barycentric)
