"""A head through the pictures of one camera (MonoNPHM section 4): the colours where rays meet the surface, and its outline.

In turns: how the person looks in some frames, as they are posed so far; then each frame's expression and pose, by
Levenberg-Marquardt steps on colours, outlines and marks. It starts from states close by, such as those of a linear head's fit.
F frames, R rays, E values of an expression's code, D of an identity's, S = E + 6. Metres and radians.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from avatar_models.heads.nphm.carried import TOGETHER, places_at_rest
from avatar_models.heads.nphm.linearised import (
    FrameOptions,
    Observed,
    brought_to_rest,
    compressed_of,
    distances_of,
    offsets_of,
    rows_of,
)
from avatar_models.heads.nphm.look import Look, Samples, fit_look
from avatar_models.heads.nphm.model import UNITS, Codes, Nphm
from avatar_models.heads.nphm.rays import Rays, deepest, trace
from avatar_models.heads.nphm.shared_identity import States
from avatar_models.heads.nphm.terms import Term, Terms, joined, mean_of
from avatar_models.heads.nphm.tracking import Tracked, TrackingOptions, key_frames, smoothed, solve_frames

GRAZING, OPEN = 0.25, 0.6
"""Cosines between normal and ray below which a pixel counts nothing, and above which wholly."""
MOST_UNEXPLAINED = 0.5
"""Of the colours' variance: beyond it something else is seen than the face."""
STEEPEST = -0.1
"""A ray that sinks into the surface more slowly, metres for each, tells nothing of where they meet."""


@dataclass(frozen=True)
class Pixels:
    """What one camera shows of F frames, in the world."""

    origin: Tensor  # (F, 3) the camera's place
    inside: Tensor  # (F, R, 3) rays of pixels that show the face's skin
    color: Tensor  # (F, R, 3) RGB in [0, 1] of those
    outside: Tensor  # (F, O, 3) rays of pixels that show no person
    to_camera: Tensor  # (F, 3, 3) rotations: the light stays with the camera

    def __getitem__(self, frames: Tensor) -> Pixels:
        return Pixels(
            self.origin[frames], self.inside[frames], self.color[frames], self.outside[frames], self.to_camera[frames]
        )

    def __len__(self) -> int:
        return len(self.origin)

    def to_head(self, states: States, directions: Tensor) -> Rays:
        """Rays (F, R, 3) as the posed heads see them."""
        return Rays(states.poses.to_head(self.origin[:, None])[:, 0], directions @ states.poses.rotation)


@dataclass(frozen=True)
class PictureOptions:
    """Raises ValueError for options that solve nothing."""

    rounds: int = 2
    frames: FrameOptions = field(default_factory=lambda: FrameOptions(widths=(1.0,) * 3, expression=2e-5))
    marks: float = 0.3  # of what a mark's squared offset costs beside points
    colors: float = 4e-3  # square metres that the mean squared difference of colours costs, of all channels together
    clamp: float = 0.1  # a difference of one channel beyond it loses its pull
    outline: float = 0.1  # what squared metres beside the outline cost, a mean over all rays
    look_frames: int = 48
    look_steps: int = 400  # in the first round, half of it in others
    look_rate: float = 5e-3
    look_together: int = 2000

    def __post_init__(self) -> None:
        if min(self.rounds, self.look_frames, self.look_steps, self.look_together) < 1 or self.clamp <= 0:
            raise ValueError(f"{self}: at least one round, frame and step, and a clamp above zero, are needed")


@dataclass(frozen=True)
class Followed:
    tracked: Tracked
    unexplained: tuple[float, float]  # the share of the colours' variance that the look leaves, at first and at last
    kept: bool  # False where the pictures change nothing: what was tracked is what was found


def follow_pictures(
    model: Nphm, pixels: Pixels, marks: Tensor, found: Tracked, options: PictureOptions, tracking: TrackingOptions, seed: int
) -> Followed:
    """What was found, with what the pictures say; marks (F, L, 3) stay in one place of the head at rest. The misfit is
    that of before. Pictures that the head does not explain, or not better than before, change nothing; and they are not
    smoothed away.
    """
    geometry, states = found.codes.geometry, States(found.codes.expression, found.poses)
    look, every = Look.plain(seed), torch.arange(len(pixels))
    keys = key_frames(len(pixels), options.look_frames)
    before = 0.0
    for number in range(options.rounds):
        samples = samples_of(model, geometry, states[keys], pixels[keys])
        if not len(samples.places):  # not one ray meets the head
            return Followed(found, (1.0, 1.0), kept=False)
        steps = options.look_steps if number == 0 else -(-options.look_steps // 2)
        look = fit_look(look, samples, steps, options.look_rate, options.look_together, seed + number)
        if number == 0:
            before = unexplained(look, model, geometry, states[keys], pixels[keys])
        codes = Codes(geometry, found.codes.appearance, states.expression)
        at_rest = places_at_rest(model, codes, states.poses, marks)
        parts = []
        for frames in every.split(TOGETHER):
            seen = Sight(model, geometry, pixels[frames], Observed(marks[frames], marks[frames], at_rest), look, options)
            parts.append(solve_frames(seen, states[frames], options.frames)[0])
        states = States.joined(parts)
    after = unexplained(look, model, geometry, states[keys], pixels[keys])
    if not after <= min(before, MOST_UNEXPLAINED):
        return Followed(found, (before, after), kept=False)
    if tracking.smoothness > 0:
        batches = [
            Sight(model, geometry, pixels[frames], Observed(marks[frames], marks[frames], at_rest), look, options)
            for frames in every.split(TOGETHER)
        ]

        def see(states: States) -> Terms:
            return joined([own(states[frames]) for own, frames in zip(batches, every.split(TOGETHER), strict=True)])

        follows = torch.ones(len(every) - 1, dtype=torch.bool)
        smooth, _ = smoothed(see, states, follows, tracking)
        left = unexplained(look, model, geometry, smooth[keys], pixels[keys])
        if left <= MOST_UNEXPLAINED:  # it may cost something: it was asked for
            states, after = smooth, left
    tracked = replace(found, codes=replace(found.codes, expression=states.expression), poses=states.poses)
    return Followed(tracked, (before, after), kept=True)


@dataclass(frozen=True)
class Sight:
    """What is seen of some frames of one identity (1, D)."""

    model: Nphm
    geometry: Tensor
    pixels: Pixels
    observed: Observed
    look: Look
    options: PictureOptions

    def __call__(self, states: States) -> Terms:
        model, geometry, options = self.model, self.geometry.detach(), self.options
        compressed = compressed_of(model, geometry)
        codes = codes_of(geometry, states)
        rays, outside = (self.pixels.to_head(states, some) for some in (self.pixels.inside, self.pixels.outside))
        met = trace(model, codes, rays)
        at_surface = brought_to_rest(model, compressed, states.expression, rays.at(met.t))
        sdf, of_sdf = distances_of(model, geometry, met.t.shape, *at_surface)
        at_deepest = brought_to_rest(model, compressed, states.expression, outside.at(deepest(model, codes, outside)))
        depth, of_depth = distances_of(model, geometry, outside.direction.shape[:2], *at_deepest)
        marks = brought_to_rest(model, compressed, states.expression, states.poses.to_head(self.observed.marks))
        offsets, of_offsets = offsets_of(self.observed, *marks)

        normals = torch.nn.functional.normalize(gradient_of(of_sdf), dim=2)
        colors, of_colors = self._colors(*at_surface, normals, states)
        facing = -(normals * rays.direction).sum(2)
        along = (gradient_of(of_sdf) * rays.direction).sum(2)
        counts = met.hit * (along < STEEPEST) * ((facing - GRAZING) / (OPEN - GRAZING)).clamp(0, 1)
        of_colors = on_ray(of_colors, of_sdf, rays.direction)
        difference = (colors - self.pixels.color).flatten(1)
        cost, kept = mean_of(difference, 3 * options.colors), thrice(counts)
        # Face whose rays miss the head, and head where no person is.
        outline = torch.cat([torch.where(met.hit, 0.0, sdf.clamp_min(0)), depth.clamp_max(0)], 1)
        of_outline = torch.cat([of_sdf, of_depth], 1) * (outline != 0)[..., None]  # who is on the right side may move
        return Terms(
            (
                Term(difference, of_colors.flatten(1, 2), cost * kept, options.clamp, (cost * (1 - kept)).sum(1)),
                Term(offsets, of_offsets, mean_of(offsets, 3 * options.marks)),
                Term(outline, of_outline, mean_of(outline, options.outline), options.frames.clamp),
            ),
            states.expression,
            options.frames.expression,
        )

    def _colors(self, x: Tensor, z: Tensor, places: Tensor, normals: Tensor, states: States) -> tuple[Tensor, Tensor]:
        """Colours (F, R, 3) of places, and what a step adds to them (F, R, 3, S) were it not for the surface's own way."""
        frames, rays = normals.shape[:2]
        shade = self.look.shade(in_camera(normals, states, self.pixels))
        with torch.enable_grad():
            shown = self.look.texture(places[:, 0, :3]) * shade.flatten(0, 1)
        channels = torch.eye(3).to(shown)
        rows = torch.stack([rows_of(x, z, shown, channel.expand_as(shown)) for channel in channels], 1)
        return shown.detach().view(frames, rays, 3), rows.view(frames, rays, 3, -1)


def gradient_of(rows: Tensor) -> Tensor:
    """The gradient (..., 3) of a number by its place in the head's frame, of what a step (..., S) adds to it."""
    return -rows[..., -3:]


def on_ray(of_color: Tensor, of_sdf: Tensor, direction: Tensor) -> Tensor:
    """What a step adds to colours (F, R, 3, S) where rays (F, R, 3) meet the surface, from what it adds to the colours and the
    distances (F, R, S) of one place. A surface that comes nearer by ds meets its ray ds / (grad s . d) sooner (Yariv et al.
    2020).
    """
    c_along = (gradient_of(of_color) * direction[:, :, None]).sum(3, keepdim=True)
    s_along = (gradient_of(of_sdf) * direction).sum(2).clamp_max(STEEPEST)
    return of_color - c_along / s_along[..., None, None] * of_sdf[:, :, None]


def thrice(counts: Tensor) -> Tensor:
    """Of pixels (F, R), for their channels (F, 3 R)."""
    return counts[..., None].expand(-1, -1, 3).flatten(1)


def codes_of(geometry: Tensor, states: States) -> Codes:
    same = geometry.expand(len(states.expression), -1)
    return Codes(same, torch.zeros_like(same), states.expression)


def in_camera(normals: Tensor, states: States, pixels: Pixels) -> Tensor:
    """Normals (F, R, 3) of posed heads in their frames as the camera sees them."""
    return normals @ states.poses.rotation.mT @ pixels.to_camera.mT


@torch.no_grad()
def samples_of(model: Nphm, geometry: Tensor, states: States, pixels: Pixels) -> Samples:
    """What the pixels show whose rays meet the head."""
    codes, rays = codes_of(geometry, states), pixels.to_head(states, pixels.inside)
    met = trace(model, codes, rays)
    x = rays.at(met.t)
    places = UNITS * model.at_rest(x, codes)[..., :3]
    normals = in_camera(model.normals(x, codes), states, pixels)
    return Samples(places[met.hit], normals[met.hit], pixels.color[met.hit])


def unexplained(look: Look, model: Nphm, geometry: Tensor, states: States, pixels: Pixels) -> float:
    """The share of the colours' variance that is left, of rays that meet the head; all of it where none does."""
    samples = samples_of(model, geometry, states, pixels)
    if not len(samples.places):
        return 1.0
    with torch.no_grad():
        left = samples.color - look.shade(samples.normals) * look.texture(samples.places)
    spread = samples.color - samples.color.mean(0)
    return float(left.square().sum() / spread.square().sum().clamp_min(1e-9))
