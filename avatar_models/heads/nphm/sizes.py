"""All that fixes the shapes of a neural head: the released MonoNPHM's sizes, and smaller ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class NphmSizes:
    """Sizes of the whole model. Region A, behind those of the A anchors, is the one of the whole head.

    Raises ValueError for sizes that do not go together.
    """

    num_anchors: int  # A
    num_pairs: int  # anchors 2 i and 2 i + 1 are each other's mirror image for i < num_pairs, the others lie in the middle
    neighbors: int  # K, anchors that a point asks
    blend_neighbors: int  # the distance to this one of them, nearest first, is how far a point's surroundings go
    blend_width: float  # standard deviations of the blending weights in that distance
    global_code: int
    local_code: int  # of each region
    expression_code: int
    hyper: int  # coordinates beside x, y and z that a deformation adds
    anchor_hidden: int
    geometry_hidden: int
    geometry_layers: int
    color_hidden: int
    color_layers: int
    link: int  # values that the colour learns of the geometry
    deformation_hidden: int
    deformation_layers: int
    compressed: int  # values that the deformation learns of an identity

    def __post_init__(self) -> None:
        least = {"num_pairs": 0, "hyper": 0, "blend_width": 1e-3}
        small = [name for name, value in asdict(self).items() if value < least.get(name, 1)]
        if small:
            raise ValueError(f"sizes are too small: {', '.join(f'{name} = {getattr(self, name)}' for name in small)}")
        if 2 * self.num_pairs > self.num_anchors:
            raise ValueError(f"{self.num_pairs} pairs do not fit into {self.num_anchors} anchors")
        if not self.blend_neighbors <= self.neighbors <= self.num_anchors:
            raise ValueError(
                f"blend_neighbors ({self.blend_neighbors}) <= neighbors ({self.neighbors}) <= "
                f"num_anchors ({self.num_anchors}) does not hold"
            )

    @property
    def num_regions(self) -> int:
        return self.num_anchors + 1

    @property
    def num_mlps(self) -> int:
        """Both sides of a pair share one."""
        return self.num_regions - self.num_pairs

    @property
    def identity_code(self) -> int:
        """Length of an identity's code, and of an appearance's: the global values, then the regions' in turn."""
        return self.global_code + self.num_regions * self.local_code

    @property
    def mlp_of_region(self) -> list[int]:
        pairs = [region // 2 for region in range(2 * self.num_pairs)]
        return pairs + list(range(self.num_pairs, self.num_mlps))

    @property
    def mirrored(self) -> list[bool]:
        """Whether a region sees its points in the mirror: the second of each pair does."""
        return [region < 2 * self.num_pairs and region % 2 == 1 for region in range(self.num_regions)]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> NphmSizes:
        return cls(**values)


def published() -> NphmSizes:
    """The released MonoNPHM's: 11.2 M parameters."""
    return NphmSizes(
        num_anchors=65, num_pairs=30, neighbors=12, blend_neighbors=8, blend_width=1 / 3.75, global_code=64, local_code=32,
        expression_code=100, hyper=2, anchor_hidden=64, geometry_hidden=200, geometry_layers=4, color_hidden=200,
        color_layers=4, link=16, deformation_hidden=400, deformation_layers=6, compressed=16,
    )  # fmt: skip


def medium() -> NphmSizes:
    """For one GPU and some hours: half of the anchors, layers half as wide."""
    return NphmSizes(
        num_anchors=33, num_pairs=14, neighbors=8, blend_neighbors=6, blend_width=1 / 3.25, global_code=48, local_code=24,
        expression_code=64, hyper=2, anchor_hidden=64, geometry_hidden=112, geometry_layers=4, color_hidden=96,
        color_layers=3, link=16, deformation_hidden=256, deformation_layers=6, compressed=16,
    )  # fmt: skip


def small() -> NphmSizes:
    """Trains on two cores."""
    return NphmSizes(
        num_anchors=17, num_pairs=6, neighbors=5, blend_neighbors=4, blend_width=1 / 2.75, global_code=24, local_code=12,
        expression_code=24, hyper=2, anchor_hidden=32, geometry_hidden=64, geometry_layers=3, color_hidden=48,
        color_layers=2, link=8, deformation_hidden=96, deformation_layers=4, compressed=8,
    )  # fmt: skip


SIZES: dict[str, Callable[[], NphmSizes]] = {"published": published, "medium": medium, "small": small}
