"""All that fixes the shapes of an NPGA."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from avatar_models.heads.nphm.forward import ForwardSizes


@dataclass(frozen=True)
class NpgaSizes:
    """Sizes of an avatar."""

    num_gaussians: int
    field: ForwardSizes  # of F; its features are the Gaussians'
    hidden: int = 256  # of G
    layers: int = 6
    latent_dim: int = 8  # h: channels beside RGB that only the screen's network reads
    screen_width: int = 16  # of that network; 0: none
    detail: bool = True
    """Whether there is a G. Without it the Gaussians ride on the surface as F moves it."""
    features: bool = True
    """Whether Gaussians have features of their own: G reads them, and they are learned. Without, F's stay as at first."""

    @property
    def num_channels(self) -> int:
        return 3 + self.latent_dim

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> NpgaSizes:
        """What :meth:`as_dict` gave."""
        return cls(**{**values, "field": ForwardSizes.from_dict(values["field"])})


VARIANTS: dict[str, Callable[[NpgaSizes], NpgaSizes]] = {
    "full": lambda sizes: sizes,
    "rigged": lambda sizes: replace(sizes, detail=False),
    "no_screen": lambda sizes: replace(sizes, latent_dim=0, screen_width=0),
    "vanilla": lambda sizes: replace(sizes, latent_dim=0, screen_width=0, features=False),
}
"""The method, Gaussians that ride on the surface alone, no network on the picture, and no features either."""
