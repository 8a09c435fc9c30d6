"""What every parametric head offers, whatever model stands behind it.

World frame of all heads (FLAME's): origin between the ears and a little below the eyes, x to the subject's left, y up,
z out of the face, metres. Joints turn by axis-angle in radians. B frames, V vertices, F triangles, I identity and
E expression coefficients.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from avatar_models.heads.skinning import Rig

NUM_LANDMARKS = 478


class Head(Protocol):
    """A linear head model with neck, jaw and two eyes as joints."""

    name: str
    num_identity: int
    num_expression: int
    expression_names: tuple[str, ...]
    rig: Rig
    faces: Tensor  # (F, 3) int64, counter-clockwise seen from outside
    landmark_faces: Tensor  # (478,) int64, index into faces
    landmark_barycentric: Tensor  # (478, 3), rows sum to 1
    landmark_weights: Tensor  # (478,) in [0, 1]: how well a detected point is tied to one place of the surface

    def vertices(self, identity: Tensor, expression: Tensor, neck: Tensor, jaw: Tensor, eyes: Tensor) -> Tensor:
        """Posed surface (B, V, 3) in metres, differentiable in all arguments.

        identity (B or 1, I), expression (B, E), neck (B, 3), jaw (B, 3), eyes (B, 6) left then right; one dtype
        (float32 or float64) and device, which the result has too.
        """
        ...

    def landmarks(self, vertices: Tensor) -> Tensor:
        """The detector's 478 points (B, 478, 3) on the surface given as vertices (B, V, 3)."""
        ...

    def hash(self) -> str:
        """sha256 over the arrays of the model: what a track was made with."""
        ...
