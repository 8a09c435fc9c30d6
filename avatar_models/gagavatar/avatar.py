"""A person made of one photo, as an avatar like any other: condition -> Gaussians -> splat -> neural renderer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from avatar_models.cameras import Camera, resized
from avatar_models.gagavatar.branches import Attributes
from avatar_models.gagavatar.model import GAGAvatar, Person, joined, shapes
from avatar_models.gagavatar.renderer import StyleUNet
from avatar_models.gagavatar.settings import RGB
from avatar_models.gagavatar.sizes import GagavatarSizes
from avatar_models.gaussians import Gaussians
from avatar_models.heads.skinning import Rig, pose
from avatar_models.splatting import splat


class OneshotAvatar:
    """The Gaussians of a photo, made once. A condition moves those on the head's vertices, and nothing else changes.

    rig: the head's vertices that carry Gaussians, of this person (no identity coefficients left).
    """

    def __init__(
        self, sizes: GagavatarSizes, attributes: Attributes, points: Tensor, rig: Rig, renderer: StyleUNet | None
    ) -> None:
        self.sizes, self.attributes, self.points, self.rig, self.renderer = sizes, attributes, points, rig, renderer
        if renderer is not None:
            renderer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # convolutions are faster so
        self.condition_size = len(rig.expression_basis) + 9
        self._covariances = shapes(attributes)[0]

    @torch.no_grad()
    def each(self, conditions: Tensor) -> Iterator[Gaussians]:
        """The Gaussians of conditions (B, E + 9), one after the other; colours have `feature_dim` channels."""
        for condition in conditions:
            yield self.gaussians(condition)

    @torch.no_grad()
    def gaussians(self, condition: Tensor) -> Gaussians:
        """The Gaussians of a condition (E + 9,): expression, jaw and eyes; metres, the head's frame."""
        expression, jaw, eyes = condition[None].split([len(self.rig.expression_basis), 3, 6], 1)
        none = condition.new_zeros(1, 0)
        vertices = pose(self.rig, none, expression, torch.zeros_like(jaw), jaw, eyes)[0]
        own = self.attributes
        return Gaussians(torch.cat([vertices, self.points]), None, None, own.opacities[0], own.colors[0], self._covariances)

    @torch.no_grad()
    def draw(self, gaussians: Gaussians, camera: Camera, background: Tensor) -> Tensor:
        """The picture (1, 3, H, W), made at the model's own size and resampled to the camera's where that is another.

        Raises ValueError for a background (3,) that is not black: the renderer has learned to draw over no other. On CUDA it
        is not looked at: every frame would wait for the device.
        """
        if not background.is_cuda and bool(background.any()):
            raise ValueError(f"a one-shot avatar is drawn over black, not over {background.tolist()}")
        side = self.sizes.image_size
        made = self.picture(splat(gaussians, resized(camera, side, side)).image)
        if (camera.height, camera.width) == (side, side):
            return made
        return interpolate(made, (camera.height, camera.width), mode="bicubic", align_corners=False, antialias=True)

    @torch.no_grad()
    def picture(self, splatted: Tensor) -> Tensor:
        """Splatted features (B, C, S, S) over black -> pictures (B, 3, S, S) in [0, 1], over black."""
        coarse = splatted[:, :RGB]
        return coarse.clamp(0, 1) if self.renderer is None else self.renderer(splatted)

    def tensors(self) -> dict[str, Tensor]:
        """All that is saved."""
        parts = {f"gaussians.{field.name}": getattr(self.attributes, field.name)[0] for field in fields(Attributes)}
        rig = {f"rig.{field.name}": array for field in fields(Rig) if (array := getattr(self.rig, field.name)) is not None}
        renderer = {} if self.renderer is None else {f"renderer.{name}": t for name, t in self.renderer.state_dict().items()}
        return {**parts, "points": self.points, **rig, **renderer}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], sizes: Mapping[str, Any]) -> OneshotAvatar:
        """The avatar that `tensors()` and `sizes.as_dict()` describe, on the tensors' device."""
        own = GagavatarSizes.from_dict(sizes)

        def part(prefix: str) -> dict[str, Tensor]:
            return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}

        attributes = Attributes(**{name: tensor[None] for name, tensor in part("gaussians.").items()})
        renderer = None
        if own.renderer is not None:
            with torch.device("meta"):  # no weights are drawn only to be replaced
                renderer = StyleUNet(own.feature_dim, own.renderer, own.photo_colors).eval()
            renderer.load_state_dict(part("renderer."), assign=True)
        return cls(own, attributes, tensors["points"], Rig(**part("rig.")), renderer)


def avatar_of(model: GAGAvatar, person: Person, rig: Rig, identity: Tensor) -> OneshotAvatar:
    """The avatar of one person (a batch of one), whose head has an identity (I,) on a rig of the model's vertices."""
    attributes = joined([person.on_vertices, person.lifted])
    return OneshotAvatar(model.sizes, attributes, person.points[0], rig.of(identity), model.renderer)
