"""Linear blend skinning with five joints: FLAME's scheme.

vertex = sum_j w_j (R_j (s - J_j) + J_j'), s = template + identity basis + expression basis + pose correctives (FLAME, Li et
al. 2017, equations 1 to 5). Joints: 0 root, 1 neck (child of root), 2 jaw, 3 left eye, 4 right eye (children of neck).
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from avatar_models.rotations import axis_angle_to_matrix

ROOT, NECK, JAW, LEFT_EYE, RIGHT_EYE = range(5)
NUM_JOINTS = 5


@dataclass(frozen=True)
class Rig:
    """The arrays of a linear head model."""

    template: Tensor  # (V, 3) metres
    identity_basis: Tensor  # (I, V, 3) metres per unit coefficient
    expression_basis: Tensor  # (E, V, 3) metres per unit coefficient
    joints: Tensor  # (5, 3) metres, of the template
    joint_identity_basis: Tensor  # (I, 5, 3) metres per unit coefficient
    weights: Tensor  # (V, 5), rows sum to 1
    joint_expression_basis: Tensor | None = None  # (E, 5, 3) metres per unit coefficient; None where no joint moves
    pose_basis: Tensor | None = None  # (36, V, 3) metres: correctives of neck, jaw and eyes; None where there are none

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Rig:
        return replace(self, **{name: array.to(device, dtype) for name, array in self._present().items()})

    def arrays(self) -> tuple[Tensor, ...]:
        """All arrays that the model has."""
        return tuple(self._present().values())

    def _present(self) -> dict[str, Any]:
        arrays = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: array for name, array in arrays.items() if array is not None}

    def take(self, vertices: Tensor) -> Rig:
        """The same model on a part of its vertices (K,) int64: a fit that needs a thousand of them poses only those."""
        return Rig(
            self.template[vertices],
            self.identity_basis[:, vertices],
            self.expression_basis[:, vertices],
            self.joints,
            self.joint_identity_basis,
            self.weights[vertices],
            self.joint_expression_basis,
            None if self.pose_basis is None else self.pose_basis[:, vertices],
        )

    def of(self, identity: Tensor) -> Rig:
        """The same model as one person's, of identity (I,): no coefficients are left."""
        return replace(
            self,
            template=self.template + torch.einsum("i,ivk->vk", identity, self.identity_basis),
            identity_basis=self.identity_basis[:0],
            joints=self.joints + torch.einsum("i,ijk->jk", identity, self.joint_identity_basis),
            joint_identity_basis=self.joint_identity_basis[:0],
        )


def joints(rig: Rig, identity: Tensor, expression: Tensor) -> Tensor:
    """Joints at rest (B, 5, 3) in metres; identity (B or 1, I), expression (B, E)."""
    found = (rig.joints + torch.einsum("bi,ijk->bjk", identity, rig.joint_identity_basis)).expand(len(expression), -1, -1)
    if rig.joint_expression_basis is not None:
        found = found + torch.einsum("be,ejk->bjk", expression, rig.joint_expression_basis)
    return found


def pose(rig: Rig, identity: Tensor, expression: Tensor, neck: Tensor, jaw: Tensor, eyes: Tensor) -> Tensor:
    """Posed vertices (B, V, 3) in metres; arguments as in :meth:`avatar_models.heads.interface.Head.vertices`."""
    if identity.shape[-1] != len(rig.identity_basis) or expression.shape[-1] != len(rig.expression_basis):
        raise ValueError(
            f"expected {len(rig.identity_basis)} identity and {len(rig.expression_basis)} expression coefficients, "
            f"got {tuple(identity.shape)} and {tuple(expression.shape)}"
        )
    frames = len(expression)
    shape = rig.template + torch.einsum("bi,ivk->bvk", identity, rig.identity_basis)
    shape = shape + torch.einsum("be,evk->bvk", expression, rig.expression_basis)
    at_rest = joints(rig, identity, expression)

    turns = axis_angle_to_matrix(torch.stack([neck, jaw, eyes[:, :3], eyes[:, 3:]], 1))  # (B, 4, 3, 3)
    R_neck, R_jaw, R_left, R_right = turns.unbind(1)
    eye = torch.eye(3, dtype=shape.dtype, device=shape.device).expand(frames, 3, 3)
    if rig.pose_basis is not None:
        shape = shape + torch.einsum("bp,pvk->bvk", (turns - eye[:, None]).flatten(1), rig.pose_basis)
    R = torch.stack([eye, R_neck, R_neck @ R_jaw, R_neck @ R_left, R_neck @ R_right], 1)  # (B, 5, 3, 3)
    # a child joint is carried by the neck's rotation about the neck's joint
    pivot = at_rest[:, NECK : NECK + 1]
    carried = (at_rest - pivot) @ R_neck.mT + pivot
    posed = torch.cat([at_rest[:, ROOT : NECK + 1], carried[:, JAW:]], 1)
    t = posed - (R @ at_rest[..., None])[..., 0]  # (B, 5, 3)

    R_vertex = torch.einsum("vj,bjkl->bvkl", rig.weights, R)
    t_vertex = torch.einsum("vj,bjk->bvk", rig.weights, t)
    return (R_vertex @ shape[..., None])[..., 0] + t_vertex
