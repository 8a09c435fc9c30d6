"""The procedural head: written by this project, needs no file but its landmark embedding, and no licence."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from avatar_models.heads.embedding import load_embedding
from avatar_models.heads.interface import Head
from avatar_models.heads.procedural_mesh import EAR, EYE_LEFT, EYE_RIGHT, MOUTH, SKIN, TEETH_LOWER, TEETH_UPPER, head_mesh
from avatar_models.heads.procedural_modes import (
    JOINTS_MM,
    expression_modes,
    hair_region,
    identity_modes,
    skinning_weights,
)
from avatar_models.heads.skinning import Rig

EMBEDDING = Path(__file__).with_name("procedural_embedding.npz")
MM = 1e-3


@cache
def procedural_head() -> Head:
    """The head with ARKit-like expressions; made in about a second, the same object at every call."""
    rig, identity_names, expression_names = procedural_rig()
    faces = torch.from_numpy(head_mesh().faces)
    embedding = load_embedding(EMBEDDING, len(faces))
    return Head("procedural", rig, faces, expression_names, True, embedding, procedural_masks(), identity_names)


def procedural_masks() -> dict[str, Tensor]:
    """Regions of the mesh by name, (V,) bool."""
    mesh = head_mesh()
    x, y, z = mesh.vertices.T
    skin, scalp = mesh.part == SKIN, hair_region(mesh.vertices) > 0.5
    regions = {
        "skin": skin,
        "face": skin & (z > 0) & (y > -95) & (y < 60) & (np.abs(x) < 60),
        "eyes_left": mesh.part == EYE_LEFT,
        "eyes_right": mesh.part == EYE_RIGHT,
        "teeth": np.isin(mesh.part, (TEETH_UPPER, TEETH_LOWER)),
        "mouth": mesh.part == MOUTH,
        "ears": mesh.part == EAR,
        "scalp": skin & scalp,
        "neck": skin & ~scalp & (y < -110),
    }
    return {name: torch.from_numpy(region) for name, region in regions.items()}


@cache
def procedural_rig() -> tuple[Rig, tuple[str, ...], tuple[str, ...]]:
    """The rig and the names of its identities and expressions."""
    mesh = head_mesh()
    identity_names, identity, joint_identity = identity_modes(mesh)
    names, expression = expression_modes(mesh)

    def metres(values: np.ndarray) -> Tensor:
        return torch.from_numpy((values.round(6) * MM).astype(np.float32))

    weights = torch.from_numpy(skinning_weights(mesh).round(9).astype(np.float32))
    rig = Rig(metres(mesh.vertices), metres(identity), metres(expression), metres(JOINTS_MM), metres(joint_identity), weights)
    return rig, identity_names, names
