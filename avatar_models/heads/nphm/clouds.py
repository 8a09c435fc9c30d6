"""Points of a surface as they were seen, frame by frame. F frames. Metres."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Clouds:
    """Points of each frame in the world, and their normals where all frames have some.

    Raises ValueError for frames without points, values that are no numbers, normals that are not one for each point, and
    sequences that are not one for each frame.
    """

    points: Sequence[Tensor]  # F of (N_f, 3)
    normals: Sequence[Tensor] | None = None  # F of (N_f, 3) unit, outwards
    sequences: Sequence[int] | None = None  # which of several sequences each frame is of; None: there is one

    def __post_init__(self) -> None:
        if not len(self.points):
            raise ValueError("there are no frames")
        for frame, points in enumerate(self.points):
            if points.ndim != 2 or points.shape[1] != 3 or not len(points):
                raise ValueError(f"frame {frame} has points of shape {tuple(points.shape)}, not (N, 3): leave out empty frames")
            if not bool(points.isfinite().all()):
                raise ValueError(f"frame {frame} has points that are not finite: leave them out")
        if self.normals is not None:
            shapes = [tuple(normals.shape) for normals in self.normals]
            if shapes != [tuple(points.shape) for points in self.points]:
                raise ValueError("normals are not one for each point; leave them all out where some are unknown")

        if self.sequences is not None and len(self.sequences) != len(self.points):
            raise ValueError(f"{len(self.sequences)} frames are said to be of a sequence, there are {len(self.points)}")

    @property
    def follows(self) -> Tensor:
        """Which frames (F - 1,) are of the sequence of the one before them."""
        if self.sequences is None:
            return torch.ones(len(self) - 1, dtype=torch.bool)
        numbers = torch.tensor(self.sequences)
        return numbers[1:] == numbers[:-1]

    def __len__(self) -> int:
        return len(self.points)

    def draw(self, frames: Sequence[int], count: int, random: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """As many points (F, count, 3) of each of these frames, and their normals. One that has fewer gives some again."""
        chosen = [_some(len(self.points[frame]), count, random) for frame in frames]
        points, normals = (
            None if parts is None else torch.stack([parts[frame][some] for frame, some in zip(frames, chosen, strict=True)])
            for parts in (self.points, self.normals)
        )
        assert points is not None
        return points, normals


def _some(available: int, count: int, random: torch.Generator) -> Tensor:
    if available < count:
        return torch.randint(available, (count,), generator=random)
    return torch.randperm(available, generator=random)[:count]
