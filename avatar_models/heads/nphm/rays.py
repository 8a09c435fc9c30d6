"""Where rays of cameras meet the surface of posed heads: sphere tracing (Hart 1996).

A signed distance says how far a ray may go on without meeting the surface. What is learned says so only roughly, so a step is a
little shorter. Nothing is recorded for gradients.
F frames, R rays. Metres, in the heads' frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from avatar_models.heads.nphm.linearised import compressed_of
from avatar_models.heads.nphm.model import UNITS, Codes, Nphm

RADIUS = 0.175
"""Of the ball around the head's origin in which there is a surface: MonoNPHM's 0.7 units."""
STEPS = 48
"""Of the rays that go on: few do for long."""
CAREFUL = 0.8
"""The share of a distance that a step goes."""
ON = 2e-4
"""This close a ray is at the surface."""
PLACES = 24
"""Of a ray, less than 16 mm from each other: one that is 3 mm deep in a head is in it for 4 cm."""


@dataclass(frozen=True)
class Rays:
    """What pixels of F frames look along."""

    origin: Tensor  # (F, 3) the cameras' places
    direction: Tensor  # (F, R, 3) unit

    def at(self, t: Tensor) -> Tensor:
        """Places (F, R, 3) so far along them, t (F, R)."""
        return self.origin[:, None] + t[..., None] * self.direction


@dataclass(frozen=True)
class Traced:
    """How far along each ray the surface is, or, where it misses, the ray's place that is nearest to it."""

    t: Tensor  # (F, R)
    hit: Tensor  # (F, R) bool


@torch.no_grad()
def trace(model: Nphm, codes: Codes, rays: Rays) -> Traced:
    """The first places on the surface of one identity's heads; only rays that still go on are asked."""
    near, far = in_ball(rays)
    t, best_t, end = near.flatten().clone(), near.flatten().clone(), far.flatten()
    best = torch.full_like(t, torch.inf)
    frame = torch.arange(len(near), device=t.device).repeat_interleave(near.shape[1])
    origin, direction = rays.origin, rays.direction.flatten(0, 1)
    compressed = compressed_of(model, codes.geometry[:1])
    going = torch.arange(len(t), device=t.device)
    for _ in range(STEPS):
        x = origin[frame[going]] + t[going, None] * direction[going]
        places = model.deformation.of_identity(
            UNITS * x[:, None], compressed.expand(len(x), -1), codes.expression[frame[going]]
        )
        sdf = model.canonical.sdf(places.transpose(0, 1), codes.geometry[:1])[0] / UNITS
        closer = sdf.abs() < best[going]
        best[going[closer]], best_t[going[closer]] = sdf.abs()[closer], t[going[closer]]
        t[going] = torch.minimum(t[going] + CAREFUL * sdf, end[going])
        going = going[(sdf.abs() >= ON) & (t[going] < end[going])]
        if not len(going):
            break
    return Traced(best_t.view(near.shape), (best.view(near.shape) < ON) & (near < far))


@torch.no_grad()
def deepest(model: Nphm, codes: Codes, rays: Rays) -> Tensor:
    """How far along each ray (F, R) its least distance is, of PLACES even ones: where it is deepest in the head, or nearest."""
    near, far = in_ball(rays)
    t = near[..., None] + (far - near)[..., None] * torch.linspace(0, 1, PLACES).to(near)  # (F, R, P)
    places = rays.origin[:, None, None] + t[..., None] * rays.direction[:, :, None]
    sdf = model.sdf(places.flatten(1, 2), codes).view(t.shape)
    return t.gather(2, sdf.argmin(2, keepdim=True))[..., 0]


def in_ball(rays: Rays) -> tuple[Tensor, Tensor]:
    """Where rays go into the ball and where they leave it, (F, R) each: the same where they pass it by, where it is nearest."""
    middle = -(rays.origin[:, None] * rays.direction).sum(2)
    half = (RADIUS**2 - rays.at(middle).square().sum(2)).clamp_min(0).sqrt()
    return middle - half, middle + half
