"""GAGAvatar: a photo to a person, a person and a posed head to Gaussians, and those to a picture.

B photos, V vertices, M lifted points, N = V + M Gaussians, C channels of a colour, S pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from avatar_models.cameras import Camera
from avatar_models.gagavatar.branches import Attributes, ExpressionBranch, LiftingBranch, encoded
from avatar_models.gagavatar.encoder import Encoder
from avatar_models.gagavatar.lifting import MAX_OFFSET, plane
from avatar_models.gagavatar.photo_colors import Photos, on_plane, on_vertices
from avatar_models.gagavatar.renderer import StyleUNet
from avatar_models.gagavatar.settings import FIXED, RGB, Setting
from avatar_models.gagavatar.sizes import GagavatarSizes
from avatar_models.gaussians import Gaussians
from avatar_models.rotations import unit_quaternion_to_matrix
from avatar_models.splatting import splat

SEEN_DIM = RGB + 1
"""Values that a vertex learns from the photo: a colour, and whether it is seen."""
FIRST_SCALE = 0.3
"""Share of MAX_SCALE that Gaussians start with."""
FIRST_LIFT = 0.12
"""Share of MAX_OFFSET that lifted points leave their plane by before anything is learned, on the side that they end on for 1:
then the head's vertices lie in front of them, and an expression is seen from the start."""


@dataclass(frozen=True)
class Person:
    """All that is made of a photo, once. An expression moves the Gaussians on vertices, and nothing else."""

    on_vertices: Attributes  # of V Gaussians
    lifted: Attributes  # of M
    points: Tensor  # (B, M, 3) metres: where the lifted ones are

    def __len__(self) -> int:
        return len(self.points)


@dataclass(frozen=True)
class Pictures:
    """What is made of B people."""

    coarse: Tensor  # (B, 3, S, S) the first channels of the splats
    refined: Tensor  # (B, 3, S, S) the neural renderer's; the coarse ones where there is none

    @property
    def different(self) -> list[Tensor]:
        """Both, or the one that both are."""
        return [self.coarse] if self.refined is self.coarse else [self.coarse, self.refined]

    def changed(self, change: Callable[[Tensor], Tensor]) -> Pictures:
        """With the same done to both; what was one stays one."""
        found = [change(picture) for picture in self.different]
        return Pictures(found[0], found[-1])


class GAGAvatar(nn.Module):
    """The whole model. Sizes give shapes, a setting what the published weights compute otherwise."""

    def __init__(self, sizes: GagavatarSizes, setting: Setting = FIXED) -> None:
        super().__init__()
        self.sizes, self.setting = sizes, setting
        self.in_bfloat16 = False
        """Whether the two large networks, encoder and renderer, compute in bfloat16; what lies between is geometry."""
        fused, width = sizes.encoder.fused, sizes.vertex_dim
        self.encoder = Encoder(sizes.encoder, sizes.plane_size)
        self.vertex_features = nn.Parameter(torch.randn(sizes.num_vertices, width))
        global_width = sizes.encoder.hidden_size if sizes.global_feature else 0
        seen_width = SEEN_DIM if sizes.photo_colors else 0
        self.expression = ExpressionBranch(width + global_width + seen_width, width, sizes.head_hidden, sizes.feature_dim)
        lifting = [LiftingBranch(fused, fused // 2, sizes.feature_dim) for _ in sizes.planes]
        if sizes.photo_colors:
            self.expression.start_with(FIRST_SCALE)
            for branch, (at_0, at_1) in zip(lifting, sizes.planes, strict=True):
                branch.start_with(FIRST_SCALE, (FIRST_LIFT * at_1 - at_0) / (at_1 - at_0))
        self.lifting = nn.ModuleList(lifting)
        self.renderer = None if sizes.renderer is None else StyleUNet(sizes.feature_dim, sizes.renderer, sizes.photo_colors)

    def forward(self, photos: Photos, vertices: Tensor, views: Camera) -> tuple[Pictures, Person]:
        """B photos, driven to vertices (B, V, 3) and seen by B views."""
        person = self.person(photos)
        return self.pictures(self.features(person, vertices, views)), person

    def person(self, photos: Photos) -> Person:
        """What photos say of B people."""
        pictures, size = photos.pictures, self.sizes.plane_size
        with self.mixed(pictures):
            F_local, F_id = self.encoder(pictures, self.setting)
        F_local, F_id = F_local.to(pictures.dtype), F_id.to(pictures.dtype)
        points, axis = plane(photos.cameras, size)
        direction = encoded(axis)
        first_colors = on_plane(pictures, size) if self.sizes.photo_colors else None
        lifted, places = [], []
        for branch, (at_0, at_1) in zip(self.lifting, self.sizes.planes, strict=True):
            attributes, lift = branch(F_local, direction, self.setting, first_colors)
            offset = MAX_OFFSET * (at_0 + (at_1 - at_0) * lift)
            lifted.append(attributes)
            places.append(points + offset[..., None] * axis[:, None])
        return Person(self.on_vertices(F_id, direction, photos), joined(lifted), torch.cat(places, 1))

    def on_vertices(self, F_id: Tensor, direction: Tensor, photos: Photos) -> Attributes:
        """Attributes of the V Gaussians on vertices, of global features (B, H)."""
        batch, count = len(F_id), self.sizes.num_vertices
        features = [self.vertex_features.expand(batch, -1, -1)]
        if self.sizes.global_feature:
            features.append(F_id[:, None].expand(-1, count, -1))
        first = None
        if self.sizes.photo_colors:
            first = on_vertices(photos)
            features.append(torch.cat([first.colors, first.seen[..., None]], 2))
        attributes: Attributes = self.expression(torch.cat(features, 2), direction, self.setting, first)
        return attributes

    def gaussians(self, person: Person, vertices: Tensor) -> Iterator[Gaussians]:
        """The Gaussians of each of B people, posed to vertices (B, V, 3) in metres."""
        attributes = joined([person.on_vertices, person.lifted])
        means = torch.cat([vertices, person.points], 1)
        opacities, colors, covariances = attributes.opacities, attributes.colors, shapes(attributes)
        for one in range(len(person)):
            yield Gaussians(means[one], None, None, opacities[one], colors[one], covariances[one])

    def features(self, person: Person, vertices: Tensor, views: Camera) -> Tensor:
        """Splatted features (B, C, S, S) over black."""
        each = enumerate(self.gaussians(person, vertices))
        return torch.cat([splat(gaussians, views[index : index + 1]).image for index, gaussians in each])

    def pictures(self, features: Tensor) -> Pictures:
        """Pictures of splatted features (B, C, S, S)."""
        coarse = features[:, :RGB]
        if self.renderer is None:
            return Pictures(coarse, coarse)
        with self.mixed(features):
            refined = self.renderer(features)
        return Pictures(coarse, refined.to(features.dtype))

    def mixed(self, x: Tensor) -> torch.autocast:
        """In the block, bfloat16 where this model has it."""
        return torch.autocast(x.device.type, torch.bfloat16, enabled=self.in_bfloat16)


def joined(parts: list[Attributes]) -> Attributes:
    """The Gaussians of several branches in one."""
    return Attributes(
        colors=torch.cat([part.colors for part in parts], 1),
        opacities=torch.cat([part.opacities for part in parts], 1),
        scales=torch.cat([part.scales for part in parts], 1),
        quats=torch.cat([part.quats for part in parts], 1),
    )


def shapes(attributes: Attributes) -> Tensor:
    """Covariances R S S^T R^T (B, N, 3, 3). R is the quaternion's formula as it stands: of unit ones the rotation, and of the
    released setting's short ones what 3DGS's rasteriser makes of them."""
    R = unit_quaternion_to_matrix(attributes.quats)
    RS = R * attributes.scales[..., None, :]
    return RS @ RS.mT
