"""What falls on a surface from all around: harmonics of degree 2 say nearly all of it (Ramamoorthi and Hanrahan 2001)."""

from __future__ import annotations

import torch
from torch import Tensor


def harmonics(n: Tensor) -> Tensor:
    """Real spherical harmonics to degree 2 without their constants, of unit vectors (..., 3): (..., 9)."""
    x, y, z = n.unbind(-1)
    return torch.stack([torch.ones_like(x), x, y, z, x * y, x * z, y * z, x * x - y * y, 3 * z * z - 1], -1)
