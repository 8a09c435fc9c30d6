"""Small corrections of tracked head poses, by what an avatar looks like in them.

Landmarks leave a degree and a millimetre open that a whole head's picture does not. A twist (6,) turns the head about a
centre by its first three values (radians) and then shifts it by the others (metres). T frames.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from avatar_models.cameras import Camera
from avatar_models.gaussians import Gaussians
from avatar_models.losses import photometric
from avatar_models.rotations import axis_angle_to_matrix

ARM = 0.1
"""Metres that count as much as a radian: a head's radius, so that both move its outline alike."""

BETAS, EPS = (0.7, 0.95), 1e-12
"""Adam's, for few steps."""

LAMBDA_L1, LAMBDA_SSIM = 0.8, 0.2

Draw = Callable[[Gaussians, Camera, Tensor], Tensor]
"""The picture (1, 3, H, W) that a camera (1) sees over a colour (3,): an avatar's `draw`."""


def twisted(camera: Camera, twists: Tensor, centre: Tensor) -> Camera:
    """Cameras (B) that see the head turned and shifted by twists (B, 6) about centre (3,); differentiable in the twists."""
    R = axis_angle_to_matrix(twists[:, :3])
    t = centre - R @ centre + twists[:, 3:]
    last = R.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(len(R), 1, 4)
    moved = torch.cat([torch.cat([R, t[:, :, None]], 2), last], 1)
    return Camera(camera.K, camera.viewmat @ moved, camera.width, camera.height)


class PoseCorrections:
    """A twist for each training frame, found along with the avatar: Adam with moments of each frame's own.

    The twists are zero on the mean of all frames, so the avatar stays where the head's frame has it.
    """

    def __init__(self, camera: Camera, centre: Tensor) -> None:
        self.tracked, self.centre = camera, centre.clone()
        count = len(camera)
        self.twists, self.m, self.v = (torch.zeros(count, 6, device=centre.device) for _ in range(3))
        self.visits = torch.zeros(count, device=centre.device)
        self.unit = unit(centre)

    def camera_to_learn(self, index: int, learns: bool) -> tuple[Tensor, Camera]:
        """A frame's twist (1, 6) and its corrected camera; the twist gets a gradient where it `learns`."""
        twist = self.twists[index : index + 1].clone().requires_grad_(learns)
        return twist, twisted(self.tracked[index : index + 1], twist, self.centre)

    def camera(self, frames: Tensor) -> Camera:
        """The corrected cameras of frames (B,), given by their indices."""
        return twisted(self.tracked[frames], self.twists[frames], self.centre)

    @torch.no_grad()
    def step(self, index: int, gradient: Tensor, rate: float) -> None:
        """One update of a frame's twist; `rate` is in radians."""
        self.visits[index] += 1
        change = adam(gradient[0] * self.unit, self.m[index], self.v[index], self.visits[index])
        self.twists[index] -= rate * self.unit * change
        self.twists -= self.twists.mean(0)

    def state_dict(self) -> dict[str, Any]:
        return {"twists": self.twists, "m": self.m, "v": self.v, "visits": self.visits}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, value in self.state_dict().items():
            value.copy_(state[name])


def unit(like: Tensor) -> Tensor:
    """(6,) one radian of turn, and the shift that counts as much."""
    return like.new_tensor([1.0, 1.0, 1.0, ARM, ARM, ARM])


def adam(gradient: Tensor, m: Tensor, v: Tensor, steps: Tensor | int) -> Tensor:
    """Adam's direction (Kingma and Ba 2015, algorithm 1); m and v are brought up to date in place."""
    b1, b2 = BETAS
    m.lerp_(gradient, 1 - b1)
    v.lerp_(gradient * gradient, 1 - b2)
    return (m / (1 - b1**steps)) / ((v / (1 - b2**steps)).sqrt() + EPS)


def align(
    gaussians: Iterable[Gaussians],
    draw: Draw,
    camera: Camera,
    targets: Tensor,
    judged: Tensor,
    background: Tensor,
    steps: int,
    rate: float = 3e-3,
) -> Camera:
    """Cameras (T) moved to where an avatar's Gaussians, one set a frame and drawn as it draws them, look most like targets
    (T, 3, H, W) in [0, 1] in the pixels that are judged (T, H, W) bool.

    Only the six numbers of each frame's pose are free; the expression stays as it was tracked. `rate` (radians) falls to zero
    over the steps. The head turns about the mean of its Gaussians.
    """
    found = [
        _aligned(one, draw, camera[index : index + 1], targets[index : index + 1], judged[index], background, steps, rate)
        for index, one in enumerate(gaussians)
    ]
    return Camera(camera.K, torch.cat([one.viewmat for one in found]), camera.width, camera.height)


def _aligned(
    gaussians: Gaussians,
    draw: Draw,
    camera: Camera,
    target: Tensor,
    judged: Tensor,
    background: Tensor,
    steps: int,
    rate: float,
) -> Camera:
    centre = gaussians.means.detach().mean(0)
    twist, units = torch.zeros(1, 6, device=centre.device), unit(centre)
    m, v = torch.zeros_like(twist), torch.zeros_like(twist)
    for step in range(steps):
        twist.requires_grad_()
        with torch.enable_grad():
            image = draw(gaussians, twisted(camera, twist, centre), background)
            wanted = torch.where(judged, target, image.detach())
            (gradient,) = torch.autograd.grad(photometric(image, wanted, LAMBDA_L1, LAMBDA_SSIM)["loss"], twist)
        twist = twist.detach() - rate * (1 - step / steps) * units * adam(gradient * units, m, v, step + 1)
    return twisted(camera, twist, centre)
