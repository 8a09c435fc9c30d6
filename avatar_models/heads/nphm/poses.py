"""Where heads are in the world, and small steps of it. F frames, N points. Metres and radians."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from avatar_models.rotations import axis_angle_to_matrix, matrix_to_axis_angle


@dataclass(frozen=True)
class Poses:
    """x_world = rotation @ x_head + translation."""

    rotation: Tensor  # (F, 3, 3)
    translation: Tensor  # (F, 3)

    @classmethod
    def still(cls, count: int) -> Poses:
        """The head's frame is the world's."""
        return cls(torch.eye(3).repeat(count, 1, 1), torch.zeros(count, 3))

    def __len__(self) -> int:
        return len(self.rotation)

    def __getitem__(self, frames: Tensor | slice) -> Poses:
        return Poses(self.rotation[frames], self.translation[frames])

    def to_head(self, points: Tensor) -> Tensor:
        """Points (F, N, 3) of the world in the head's frame."""
        return (points - self.translation[:, None]) @ self.rotation

    def to_world(self, points: Tensor) -> Tensor:
        """The way back."""
        return points @ self.rotation.mT + self.translation[:, None]

    def stepped(self, step: Tensor) -> Poses:
        """Turned and moved by (F, 6), axis-angle and metres, both along the head's axes.

        A small step takes a world's point from x in the head's frame to x + x × turn - move.
        """
        turned = self.rotation @ axis_angle_to_matrix(step[:, :3])
        return Poses(turned, self.translation + (turned @ step[:, 3:, None])[..., 0])

    def apart(self, other: Poses) -> tuple[Tensor, Tensor]:
        """Angles (F,) in radians, and how far the heads' origins are apart (F,)."""
        between = matrix_to_axis_angle(self.rotation.mT @ other.rotation)
        return between.norm(dim=1), (self.translation - other.translation).norm(dim=1)
