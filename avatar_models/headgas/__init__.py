"""HeadGaS (Dhamo et al., ECCV 2024): Gaussians whose colour and opacity follow the expression."""

from __future__ import annotations

from avatar_models.headgas.inference import FrozenHeadGas
from avatar_models.headgas.model import HeadGas, HeadGasSizes, nearest_distances, parameter_groups
from avatar_models.headgas.smaller import Smaller, smaller
from avatar_models.headgas.variants import VARIANTS

__all__ = [
    "VARIANTS",
    "FrozenHeadGas",
    "HeadGas",
    "HeadGasSizes",
    "Smaller",
    "nearest_distances",
    "parameter_groups",
    "smaller",
]
