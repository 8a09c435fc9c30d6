"""A head through a sequence of point clouds: one identity, and each frame's expression and rigid pose.

The identity comes of a few key frames together (shared_identity). Then every frame is solved alone by damped Gauss-Newton
steps: Levenberg-Marquardt with reweighted distances. Each key frame starts two chains of frames, forwards and backwards, in
which a frame starts from the one before; all chains go on side by side. Marks, which are known again in every frame, then tell
where along the surface things went (`follow_marks`). Last, if asked for, all frames are solved together with a pull between
neighbours.
F frames, N points, E values of an expression's code, D of an identity's, S = E + 6. Metres and radians.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from avatar_models.heads.nphm.carried import TOGETHER, places_at_rest
from avatar_models.heads.nphm.chains import chain_solve
from avatar_models.heads.nphm.clouds import Clouds
from avatar_models.heads.nphm.linearised import Linearised, Observed, linearised
from avatar_models.heads.nphm.model import Codes, Nphm
from avatar_models.heads.nphm.poses import Poses
from avatar_models.heads.nphm.shared_identity import IdentityOptions, States, find_identity

LEAST_DAMPING = 1e-6


@dataclass(frozen=True)
class FrameOptions:
    """Raises ValueError for options that solve nothing."""

    points: int = 500  # of each frame
    clamps: tuple[float, ...] = (0.0125, 0.004, 0.004, 0.004)  # one for each step: a distance beyond it loses its pull, metres
    expression: float = 2e-6  # square metres of mean squared distance that a code's squared length costs
    marks: float = 1.0  # what a mark's squared offset costs beside a point's squared distance, means of both
    damping: float = 1e-3  # to start with: the share that is added to the diagonal

    def __post_init__(self) -> None:
        if self.points < 1 or not self.clamps or min(self.clamps) <= 0:
            raise ValueError(
                f"points = {self.points} and clamps = {self.clamps}: both need at least one, and clamps above zero"
            )


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


def track(model: Nphm, clouds: Clouds, start: Poses, options: TrackingOptions, seed: int = 0) -> Tracked:
    """The head of all frames, from their rough poses. Raises ValueError where there are not as many of both."""
    if len(start) != len(clouds):
        raise ValueError(f"there are {len(start)} rough poses for {len(clouds)} frames")
    keys = key_frames(len(clouds), options.key_frames)
    geometry, of_keys = find_identity(model, clouds, keys.tolist(), start[keys], options.identity, seed)
    states, misfit = track_frames(model, geometry, clouds, keys, of_keys, options.frames, seed)
    if options.smoothness > 0:
        observed = Observed.of_points(_drawn(clouds, torch.arange(len(clouds)), options.frames, seed))
        states, misfit = smoothed(model, geometry, observed, states, clouds.follows, options)
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
        frame_options = replace(options.frames, clamps=options.frames.clamps[-1:] * steps)
        solved = [
            solve_frames(model, geometry, observed[frames], states[frames], frame_options) for frames in every.split(TOGETHER)
        ]
        states, misfit = States.joined([own for own, _ in solved]), torch.cat([own for _, own in solved])
    if options.smoothness > 0:
        states, misfit = smoothed(model, geometry, observed, states, clouds.follows, options)
    return Tracked(Codes(geometry, found.codes.appearance, states.expression), states.poses, misfit)


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
        found, misfit[frames] = solve_frames(model, geometry, points, states[before[frames]], options)
        states = _replaced(states, frames, found)
    return states, misfit


def solve_frames(
    model: Nphm, geometry: Tensor, observed: Observed, start: States, options: FrameOptions
) -> tuple[States, Tensor]:
    """States of frames that do not know of each other, and their misfit (F,)."""
    states, at = start, linearised(model, geometry, start, observed)
    damping = start.expression.new_full((len(start.expression),), options.damping)
    for clamp in options.clamps:
        H, b = normal_equations(at, states.expression, clamp, options)
        tried = states.stepped(damped_step(H, b, damping))
        then = linearised(model, geometry, tried, observed)
        before = energy(at, states.expression, clamp, options)
        better = energy(then, tried.expression, clamp, options) < before
        states, at = _where(better, tried, states), then.chosen(better, at)
        damping = torch.where(better, damping / 5, damping * 10).clamp_min(LEAST_DAMPING)
    return states, _misfit(at, options.clamps[-1])


def smoothed(
    model: Nphm, geometry: Tensor, observed: Observed, states: States, follows: Tensor, options: TrackingOptions
) -> tuple[States, Tensor]:
    """All frames solved together, expressions pulled to each other's of frames that follow (F - 1,) the one before them:
    Gauss-Newton steps from states close by.
    """
    clamp, weight = options.frames.clamps[-1], options.smoothness
    pull = torch.nn.functional.pad(
        torch.full_like(states.expression[1:], weight) * follows.to(observed.points.device)[:, None], (0, 6)
    )
    at = linearised(model, geometry, states, observed)
    for _ in range(options.smoothing_steps):
        H, b = normal_equations(at, states.expression, clamp, options.frames)
        step = chain_solve(H, b, pull, states.expression)
        states = states.stepped(step)
        at = linearised(model, geometry, states, observed)
    return states, _misfit(at, clamp)


def influence(sdf: Tensor, clamp: float) -> Tensor:
    """How much of its pull a distance keeps: Geman and McClure's weights, one at zero, a quarter at the clamp."""
    return (1 + (sdf / clamp).square()).reciprocal().square()


def energy(at: Linearised, expression: Tensor, clamp: float, options: FrameOptions) -> Tensor:
    """What a frame's steps make small (F,), square metres:

    mean r^2 / (1 + r^2 / clamp^2) + options.marks mean |offset|^2 + options.expression |z|^2
    """
    of_marks = _mark_weight(at, options) * at.offsets.square().sum(1)
    return _robust(at.sdf, clamp) + of_marks + options.expression * expression.square().sum(1)


def normal_equations(at: Linearised, expression: Tensor, clamp: float, options: FrameOptions) -> tuple[Tensor, Tensor]:
    """Half the energy's reweighted curvature (F, S, S), and half its slope (F, S)."""
    w = influence(at.sdf, clamp) / at.sdf.shape[1]
    residuals, jacobian = torch.cat([at.sdf, at.offsets], 1), torch.cat([at.jacobian, at.offsets_jacobian], 1)
    weighted = torch.cat([w, torch.full_like(at.offsets, _mark_weight(at, options))], 1)[..., None] * jacobian
    H, b = weighted.mT @ jacobian, (weighted.mT @ residuals[..., None])[..., 0]
    size = expression.shape[1]
    H[:, range(size), range(size)] += options.expression
    b[:, :size] += options.expression * expression
    return H, b


def _mark_weight(at: Linearised, options: FrameOptions) -> float:
    """What one mark's squared offset costs."""
    return options.marks / max(at.offsets.shape[1] // 3, 1)


def damped_step(H: Tensor, b: Tensor, damping: Tensor) -> Tensor:
    """Levenberg-Marquardt's step (F, S), damping (F,)."""
    diagonal = H.diagonal(dim1=1, dim2=2)
    least = 1e-9 * diagonal.amax(1, keepdim=True).clamp_min(1e-12)  # what no point sees stays where it is
    damped = H + torch.diag_embed(damping[:, None] * diagonal + least)
    factor, failed = torch.linalg.cholesky_ex(damped)
    step = -torch.cholesky_solve(b[..., None], factor)[..., 0]
    return torch.where((failed > 0)[:, None], torch.zeros_like(step), step)


def _robust(sdf: Tensor, clamp: float) -> Tensor:
    return (sdf.square() / (1 + (sdf / clamp).square())).mean(1)


def _misfit(at: Linearised, clamp: float) -> Tensor:
    return _robust(at.sdf, clamp).sqrt()


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
