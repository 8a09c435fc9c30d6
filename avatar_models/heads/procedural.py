"""The procedural head: written by this project, needs no file but its landmark embedding, and no licence."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from avatar_models.heads.interface import NUM_LANDMARKS
from avatar_models.heads.procedural_mesh import head_mesh
from avatar_models.heads.procedural_modes import JOINTS_MM, expression_modes, identity_modes, skinning_weights
from avatar_models.heads.skinning import Rig, pose

EMBEDDING = Path(__file__).with_name("procedural_embedding.npz")
MM = 1e-3


class ProceduralHead:
    """A linear head with ARKit-like expressions; see :class:`avatar_models.heads.interface.Head`."""

    name = "procedural"

    def __init__(self, rig: Rig, faces: Tensor, identity_names: tuple[str, ...], expression_names: tuple[str, ...]) -> None:
        self.rig, self.faces = rig, faces
        self.identity_names, self.expression_names = identity_names, expression_names
        self.num_identity, self.num_expression = len(identity_names), len(expression_names)
        if EMBEDDING.exists():
            stored = np.load(EMBEDDING)
            self.landmark_faces = torch.from_numpy(stored["faces"])
            self.landmark_barycentric = torch.from_numpy(stored["barycentric"])
            self.landmark_weights = torch.from_numpy(stored["weights"])

    def vertices(self, identity: Tensor, expression: Tensor, neck: Tensor, jaw: Tensor, eyes: Tensor) -> Tensor:
        """Posed surface (B, V, 3) in metres."""
        return pose(self.rig.to(expression.device, expression.dtype), identity, expression, neck, jaw, eyes)

    def landmarks(self, vertices: Tensor) -> Tensor:
        """The detector's 478 points (B, 478, 3)."""
        corners = vertices[:, self.faces[self.landmark_faces].flatten()].reshape(len(vertices), NUM_LANDMARKS, 3, 3)
        return (corners * self.landmark_barycentric.to(vertices)[..., None]).sum(2)

    def hash(self) -> str:
        """sha256 over the arrays of the model and its embedding."""
        found = hashlib.sha256()
        for array in (*self.rig.arrays(), self.faces, self.landmark_faces, self.landmark_barycentric):
            found.update(np.ascontiguousarray(array.numpy()).tobytes())
        return found.hexdigest()


@cache
def procedural_head() -> ProceduralHead:
    """The head; made in about a second, the same object at every call."""
    mesh = head_mesh()
    identity_names, identity, joint_identity = identity_modes(mesh)
    expression_names, expression = expression_modes(mesh)

    def metres(values: np.ndarray) -> Tensor:
        return torch.from_numpy((values * MM).astype(np.float32))

    weights = torch.from_numpy(skinning_weights(mesh).astype(np.float32))
    rig = Rig(metres(mesh.vertices), metres(identity), metres(expression), metres(JOINTS_MM), metres(joint_identity), weights)
    return ProceduralHead(rig, torch.from_numpy(mesh.faces), identity_names, expression_names)
