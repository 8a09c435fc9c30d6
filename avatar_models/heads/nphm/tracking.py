"""A head through a sequence of point clouds: one identity, and each frame's expression and rigid pose.

The identity comes of a few key frames together (shared_identity). Then every frame is solved alone by damped Gauss-Newton
steps: Levenberg-Marquardt with reweighted distances. Each key frame starts two chains of frames, forwards and backwards, in
which a frame starts from the one before; all chains go on side by side. Marks, which are known again in every frame, then tell
where along the surface things went (`follow_marks`). Last, if asked for, all frames are solved together with a pull between
neighbours.
F frames, N points, E values of an expression's code, D of an identity's, S = E + 6. Metres and radians.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor

from avatar_models.heads.nphm.carried import TOGETHER, places_at_rest
from avatar_models.heads.nphm.chains import chain_solve
from avatar_models.heads.nphm.clouds import Clouds
from avatar_models.heads.nphm.linearised import POSE, FrameOptions, Observed, linearised
from avatar_models.heads.nphm.model import Codes, Nphm
from avatar_models.heads.nphm.poses import Poses
from avatar_models.heads.nphm.shared_identity import IdentityOptions, States, find_identity
from avatar_models.heads.nphm.terms import Terms, damped_step

LEAST_DAMPING = 1e-6


@dataclass(frozen=True)
class TrackingOptions:
    """Raises ValueError where there is no key frame, or no step that follows marks."""

    key_frames: int = 5
    identity: IdentityOptions = field(default_factory=IdentityOptions)
    frames: FrameOptions = field(default_factory=FrameOptions)
    smoothness: float = 0.0  # square metres that the squared step of an expression's code from frame to frame costs
    smoothing_steps: int = 2
    mark_steps: tuple[int, ...] = (2, 2)  # of each frame; where marks lie at rest is found anew before each of these

    def __post_init__(self) -> None:
        if self.key_frames < 1:
            raise ValueError(f"key_frames = {self.key_frames}: an identity comes of one frame at least")
        if not self.mark_steps or min(self.mark_steps) < 1:
            raise ValueError(f"mark_steps = {self.mark_steps}: at least one round, of at least one step each, is needed")


@dataclass(frozen=True)
class Tracked:
    codes: Codes  # identity and appearance (1, D), the latter zeros; expressions (F, E)
    poses: Poses
    misfit: Tensor  # (F,) root of the mean squared distance, each counting as its clamp lets it

    def __getitem__(self, frames: Tensor | slice) -> Tracked:
        codes = replace(self.codes, expression=self.codes.expression[frames])
        return Tracked(codes, self.poses[frames], self.misfit[frames])


def track(model: Nphm, clouds: Clouds, start: Poses, options: TrackingOptions, seed: int = 0) -> Tracked:
    """The head of all frames, from their rough poses. Raises ValueError where there are not as many of both."""
    if len(start) != len(clouds):
        raise ValueError(f"there are {len(start)} rough poses for {len(clouds)} frames")
    keys = key_frames(len(clouds), options.key_frames)
    geometry, of_keys = find_identity(model, clouds, keys.tolist(), start[keys], options.identity, seed)
    states, misfit = track_frames(model, geometry, clouds, keys, of_keys, options.frames, seed)
    if options.smoothness > 0:
        observed = Observed.of_points(_drawn(clouds, torch.arange(len(clouds)), options.frames, seed))
        states, at = smoothed(seeing(model, geometry, observed, options.frames), states, clouds.follows, options)
        misfit = misfit_of(at)
    return Tracked(Codes(geometry, torch.zeros_like(geometry), states.expression), states.poses, misfit)


def follow_marks(
    model: Nphm, clouds: Clouds, marks: Tensor, found: Tracked, options: TrackingOptions, seed: int = 0
) -> Tracked:
    """What `track` found, with marks (F, L, 3) that stay in one place of the head at rest.

    A surface's points say nothing of what moves along it. Where the marks lie at rest nobody knows either: it is the median of
    all frames, found in turns with the frames' expressions and poses.
    """
    geometry, states = found.codes.geometry, States(found.codes.expression, found.poses)
    every = torch.arange(len(clouds))
    points = _drawn(clouds, every, options.frames, seed)
    for steps in options.mark_steps:
        codes = Codes(geometry, found.codes.appearance, states.expression)
        observed = Observed(points, marks, places_at_rest(model, codes, states.poses, marks))
        frame_options = replace(options.frames, widths=(1.0,) * steps)
        solved = [
            solve_frames(seeing(model, geometry, observed[frames], frame_options), states[frames], frame_options)
            for frames in every.split(TOGETHER)
        ]
        states, misfit = States.joined([own for own, _ in solved]), torch.cat([misfit_of(at) for _, at in solved])
    if options.smoothness > 0:
        states, at = smoothed(seeing(model, geometry, observed, options.frames), states, clouds.follows, options)
        misfit = misfit_of(at)
    return Tracked(Codes(geometry, found.codes.appearance, states.expression), states.poses, misfit)


def misfit_at(model: Nphm, clouds: Clouds, found: Tracked, options: TrackingOptions, seed: int = 0) -> Tensor:
    """(F,) The misfit of what was found, by the points that `follow_marks` looks at."""
    states, every = States(found.codes.expression, found.poses), torch.arange(len(clouds))
    observed = Observed.of_points(_drawn(clouds, every, options.frames, seed))
    parts = [
        misfit_of(linearised(model, found.codes.geometry, states[frames], observed[frames], options.frames))
        for frames in every.split(TOGETHER)
    ]
    return torch.cat(parts)


def key_frames(count: int, wanted: int) -> Tensor:
    """Frames spread over a sequence, each in the middle of its share: (K,)."""
    wanted = min(wanted, count)
    return ((torch.arange(wanted) + 0.5) * count / wanted).long()


def track_frames(
    model: Nphm, geometry: Tensor, clouds: Clouds, keys: Tensor, of_keys: States, options: FrameOptions, seed: int = 0
) -> tuple[States, Tensor]:
    """States of all frames, of an identity (1, D) and the key frames' (K,) rough states; and their misfit (F,)."""
    every = torch.arange(len(clouds))
    away = (every[:, None] - keys).abs()
    nearest = away.argmin(1)
    rank, before = away.min(1).values, every - (every - keys[nearest]).sign()
    states = of_keys[nearest]
    misfit = states.expression.new_zeros(len(clouds))
    for step in range(int(rank.max()) + 1):
        frames = (rank == step).nonzero()[:, 0]
        points = Observed.of_points(_drawn(clouds, frames, options, seed))
        found, at = solve_frames(seeing(model, geometry, points, options), states[before[frames]], options)
        misfit[frames] = misfit_of(at)
        states = _replaced(states, frames, found)
    return states, misfit


See = Callable[[States], Terms]
"""What is seen of frames whose states are given."""


def seeing(model: Nphm, geometry: Tensor, observed: Observed, options: FrameOptions) -> See:
    """Of an identity (1, D)."""
    return partial(linearised, model, geometry, observed=observed, options=options)


def misfit_of(at: Terms) -> Tensor:
    """(F,) root of the mean squared distance of points, each counting as its clamp lets it."""
    return at.parts[0].energy().sqrt()


def solve_frames(see: See, start: States, options: FrameOptions) -> tuple[States, Terms]:
    """States of frames that do not know of each other, and what is seen there."""
    states, at = start, see(start)
    damping = start.expression.new_full((len(start.expression),), options.damping)
    for width in options.widths:
        tried = states.stepped(damped_step(*at.wider(width).normal_equations(), damping))
        then = see(tried)
        better = then.wider(width).energy() < at.wider(width).energy()
        states, at = _where(better, tried, states), then.chosen(better, at)
        damping = torch.where(better, damping / 5, damping * 10).clamp_min(LEAST_DAMPING)
    return states, at


def smoothed(see: See, states: States, follows: Tensor, options: TrackingOptions) -> tuple[States, Terms]:
    """All frames solved together, expressions pulled to each other's of frames that follow (F - 1,) the one before them:
    Gauss-Newton steps from states close by.
    """
    pull = torch.nn.functional.pad(
        torch.full_like(states.expression[1:], options.smoothness) * follows.to(states.expression.device)[:, None], (0, POSE)
    )
    at = see(states)
    for _ in range(options.smoothing_steps):
        states = states.stepped(chain_solve(*at.normal_equations(), pull, states.expression))
        at = see(states)
    return states, at


def _drawn(clouds: Clouds, frames: Tensor, options: FrameOptions, seed: int) -> Tensor:
    """Points (F, N, 3) of frames: the same ones of a frame whichever others are asked with it."""
    generators = [torch.Generator().manual_seed(seed * len(clouds) + frame) for frame in frames.tolist()]
    drawn = [clouds.draw([f], options.points, random)[0] for f, random in zip(frames.tolist(), generators, strict=True)]
    return torch.cat(drawn)


def _where(which: Tensor, states: States, others: States) -> States:
    return States(
        torch.where(which[:, None], states.expression, others.expression),
        Poses(
            torch.where(which[:, None, None], states.poses.rotation, others.poses.rotation),
            torch.where(which[:, None], states.poses.translation, others.poses.translation),
        ),
    )


def _replaced(states: States, frames: Tensor, found: States) -> States:
    return States(
        states.expression.index_copy(0, frames, found.expression),
        Poses(
            states.poses.rotation.index_copy(0, frames, found.poses.rotation),
            states.poses.translation.index_copy(0, frames, found.poses.translation),
        ),
    )
