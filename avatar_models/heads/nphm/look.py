"""How one person looks in one clip: a colour at each place of the head at rest, and the light.

    shown = light(n) c(x_rest)        light(n) = sum_k L_k Y_k(n), harmonics of degree 2, fixed to the camera

A prior's own colours, if it has learned any, are too smooth to follow: what moves along a surface is told by edges. So the
colour is the person's own, a small MLP of sines and cosines of the place. N points. Places in the fields' units.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from avatar_models.light import harmonics

OCTAVES = 6
LONGEST = 8.0
"""Radians in a unit of the longest wave: it is as long as a head is high. The shortest is 6 mm."""
DARKEST = 0.1
"""Of the light that falls on any place."""
FINAL_RATE = 0.05
RELIT_EVERY = 50
"""Steps of the texture after which the light is found anew."""
STIFFNESS = 3e-3
"""Of the light's coefficients, in shares of what the pixels say."""


class Texture(nn.Module):
    """Colours (N, 3), [0, 1] for black to white, of places (N, 3) at rest. A gray at first."""

    def __init__(self, hidden: int = 64) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(3 + 6 * OCTAVES, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 3)
        )  # fmt: skip
        last = self.net[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.constant_(last.bias, 0.5)

    def forward(self, places: Tensor) -> Tensor:
        waves = LONGEST * 2.0 ** torch.arange(OCTAVES, device=places.device, dtype=places.dtype)
        phase = (places[..., None, :] * waves[:, None]).flatten(-2)
        found: Tensor = self.net(torch.cat([places, phase.sin(), phase.cos()], -1))
        return found


@dataclass(frozen=True)
class Look:
    texture: Texture
    light: Tensor  # (9, 3)

    def shade(self, normals: Tensor) -> Tensor:
        """What falls on places with normals (N, 3) in the camera's frame, for each channel."""
        return (harmonics(normals) @ self.light).clamp_min(DARKEST)

    @classmethod
    def plain(cls, seed: int) -> Look:
        """Gray, in a light that is the same everywhere."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(Texture(), torch.eye(9)[:, :1].repeat(1, 3))


@dataclass(frozen=True)
class Samples:
    """What pixels show."""

    places: Tensor  # (N, 3) at rest
    normals: Tensor  # (N, 3) in the camera's frame
    color: Tensor  # (N, 3)


def fit_look(start: Look, samples: Samples, steps: int, rate: float, together: int, seed: int) -> Look:
    """A look that explains the samples, from `start` on: Adam on the texture, least squares for the light in between."""
    texture, light = start.texture, start.light
    Y = harmonics(samples.normals)
    optimizer = torch.optim.Adam(texture.parameters(), lr=rate)
    random = torch.Generator().manual_seed(seed)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate * (1 - (1 - FINAL_RATE) * step / steps)
        if step and step % RELIT_EVERY == 0:
            with torch.no_grad():
                light = light_on(Y, texture(samples.places), samples.color)
        some = torch.randint(len(Y), (min(together, len(Y)),), generator=random)
        with torch.enable_grad():
            shown = Look(texture, light).shade(samples.normals[some]) * texture(samples.places[some])
            loss = (shown - samples.color[some]).abs().mean()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return Look(texture, light)


def light_on(Y: Tensor, albedo: Tensor, color: Tensor) -> Tensor:
    """The light (9, 3) in which an albedo (N, 3) has colours (N, 3), Y (N, 9) its normals' harmonics: least squares.

    What the pixels do not tell is as an even light of strength one.
    """
    even = torch.eye(9).to(Y)
    found = []
    for channel in range(3):
        X = Y * albedo[:, channel, None]
        XtX = X.T @ X
        stiff = STIFFNESS / 9 * XtX.trace() * even
        found.append(torch.linalg.solve(XtX + stiff, X.T @ color[:, channel] + stiff[0]))
    return torch.stack(found, 1)
