"""All that fixes the shapes of a GAGAvatar: the published sizes, small ones for a CPU, and the ablations of Table 3."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

TWO_PLANES = ((0.0, 1.0), (0.0, -1.0))
"""Where a lifted point lies along the optical axis for 0 and for 1, in MAX_OFFSET: one plane goes back, one comes forward."""

ONE_PLANE = ((-1.0, 1.0),)
"""One plane whose points go both ways."""


@dataclass(frozen=True)
class EncoderSizes:
    """A DINOv2 vision transformer and the pyramid that decodes its last four layers."""

    image_size: int  # pixels, a multiple of the patch
    patch_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    levels: tuple[int, ...]  # channels of the four layers' maps, finest first
    fused: int  # channels of the fused pyramid and of the feature map F_local


@dataclass(frozen=True)
class RendererSizes:
    """The StyleUNet. Widths are its channels from 4 pixels up to the picture's size; the decoder has twice as many."""

    widths: tuple[int, ...]
    style_dim: int
    style_layers: int


@dataclass(frozen=True)
class GagavatarSizes:
    """Sizes of the whole model."""

    num_vertices: int  # of the head
    image_size: int  # pixels along a side of the picture that is made
    encoder: EncoderSizes
    renderer: RendererSizes | None  # None: the first three channels are the picture
    plane_size: int  # points along a side of a plane
    feature_dim: int  # of a Gaussian's colours
    vertex_dim: int  # of a vertex's own features, and of the layers on them
    head_hidden: int  # of the layers that give attributes
    planes: tuple[tuple[float, float], ...] = TWO_PLANES
    global_feature: bool = True
    photo_colors: bool = (
        False  # whether a lifted point starts from the photo's colour, and the renderer from the coarse picture
    )

    @property
    def num_gaussians(self) -> int:
        return self.num_vertices + len(self.planes) * self.plane_size**2

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> GagavatarSizes:
        """What :meth:`as_dict` gave, also where JSON has made lists of its tuples."""
        encoder, renderer = values["encoder"], values["renderer"]
        parts = {
            "encoder": EncoderSizes(**{**encoder, "levels": tuple(encoder["levels"])}),
            "renderer": renderer and RendererSizes(**{**renderer, "widths": tuple(renderer["widths"])}),
            "planes": tuple((float(at_0), float(at_1)) for at_0, at_1 in values["planes"]),
        }
        return cls(**{**values, **parts})


def published(num_vertices: int = 5023) -> GagavatarSizes:
    """The released model's: 168.9 M parameters, 180,255 Gaussians on FLAME."""
    encoder = EncoderSizes(518, 14, 768, 12, 12, (256, 512, 1024, 1024), 256)
    renderer = RendererSizes((256, 256, 256, 256, 128, 64, 32, 16), 512, 8)
    return GagavatarSizes(num_vertices, 512, encoder, renderer, 296, 32, 256, 128, photo_colors=True)


def small(num_vertices: int) -> GagavatarSizes:
    """Trains on two cores: 128 pixels, planes of 64 x 64, a transformer of its own."""
    encoder = EncoderSizes(128, 8, 192, 6, 6, (48, 64, 96, 96), 64)
    renderer = RendererSizes((64, 64, 64, 48, 32, 12), 64, 4)
    return GagavatarSizes(num_vertices, 128, encoder, renderer, 64, 32, 64, 64, photo_colors=True)


SIZES: dict[str, Callable[[int], GagavatarSizes]] = {"published": published, "small": small}

VARIANTS: dict[str, Callable[[GagavatarSizes], GagavatarSizes]] = {
    "full": lambda sizes: sizes,
    "one_plane": lambda sizes: replace(sizes, planes=ONE_PLANE),
    "no_global_feature": lambda sizes: replace(sizes, global_feature=False),
    "no_renderer": lambda sizes: replace(sizes, renderer=None),
    "no_photo_colors": lambda sizes: replace(sizes, photo_colors=False),
}
"""The method and its ablations: those of Table 3, where the one without the lifting loss is a weight of zero, and the paper's
own colours of lifted points."""
