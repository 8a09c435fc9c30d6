"""What every linear head model offers: a surface from identity, expression and pose, and the detector's points on it.

World frame of all heads (FLAME's): origin between the ears and a little below the eyes, x to the subject's left, y up,
z out of the face, metres. Joints turn by axis-angle in radians. B frames, V vertices, F triangles, I identity and
E expression coefficients.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from torch import Tensor

from avatar_models.heads.embedding import LandmarkEmbedding
from avatar_models.heads.skinning import Rig, joints, pose


@dataclass(frozen=True)
class Head:
    """A linear head model with neck, jaw and two eyes as joints."""

    name: str
    rig: Rig
    faces: Tensor  # (F, 3) int64, counter-clockwise seen from outside
    expression_names: tuple[str, ...]
    one_sided: bool
    """Whether expressions go from 0 to 1 (ARKit's kind), or are normal with deviation 1 (a PCA's)."""
    embedding: LandmarkEmbedding
    masks: Mapping[str, Tensor] = field(default_factory=dict)
    """Regions by name, (V,) bool: skin, face (its front), eyes_left, eyes_right, and what else a model tells apart."""

    identity_names: tuple[str, ...] = ()
    """Empty where they are a PCA's."""

    @property
    def num_identity(self) -> int:
        return len(self.rig.identity_basis)

    @property
    def num_expression(self) -> int:
        return len(self.rig.expression_basis)

    def vertices(self, identity: Tensor, expression: Tensor, neck: Tensor, jaw: Tensor, eyes: Tensor) -> Tensor:
        """Posed surface (B, V, 3) in metres, differentiable in all arguments.

        identity (B or 1, I), expression (B, E), neck (B, 3), jaw (B, 3), eyes (B, 6) left then right; one dtype
        (float32 or float64) and device, which the result has too.
        """
        return pose(self.rig.to(expression.device, expression.dtype), identity, expression, neck, jaw, eyes)

    def joints(self, identity: Tensor, expression: Tensor) -> Tensor:
        """Where root, neck, jaw and the two eyes turn about, (B, 5, 3) in metres, at rest."""
        return joints(self.rig.to(expression.device, expression.dtype), identity, expression)

    def landmarks(self, vertices: Tensor) -> Tensor:
        """The detector's 478 points (B, 478, 3) on the surface given as vertices (B, V, 3)."""
        return self.embedding.points(vertices, self.faces)

    def of_person(self, identity: Tensor) -> Head:
        """The head of one known person, (I,): the same surface from expression and pose, and no identity left to choose.

        A fit of it finds expression and pose alone. Raises ValueError for another number of coefficients.
        """
        if identity.shape != (self.num_identity,):
            raise ValueError(f"identity must be ({self.num_identity},) for the head {self.name}, is {tuple(identity.shape)}")
        return replace(self, rig=self.rig.of(identity.to(self.rig.template)), identity_names=())

    def hash(self) -> str:
        """sha256 over the arrays of the model and its embedding: what a track was made with."""
        found = hashlib.sha256()
        for array in (*self.rig.arrays(), self.faces, *self.embedding.arrays()):
            found.update(np.ascontiguousarray(array.numpy()).tobytes())
        return found.hexdigest()
