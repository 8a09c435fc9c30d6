"""How well heads are found again in noisy, incomplete clouds of points of people that the prior has never seen.

    python -m bench.nphm_points PRIOR HEAD_FILE [PEOPLE]

PRIOR is models/nphm of a project that has trained one, HEAD_FILE the file of the head whose people it was trained on. The
people that it kept for judging do 20 frames each: random mixtures of expressions that training has not seen, one into the next,
while the head turns by up to 20 degrees and moves by up to 5 cm. A frame's cloud is what is left of 5,000 points of the surface
when 15 % are missing around a place that stays the same, and 15 % around three that are other ones in each frame; with Gaussian
noise of 0.5 mm, and 3 % of points that are off by centimetres. Rough poses are wrong by 5 degrees and 1 cm.

Prints for each person, and for the same method with complete points without noise: the mean distance of true points of the
whole surface from the fitted one, in the world, so that it has the pose's errors in it; the pose's own, and what is left of
them when those that are the same in all frames are taken away, since a shape that is not quite the person's may lie otherwise
in its frame; and frames a second of CPU time and of wall time, one thread. The distance is that of Newton's steps; once it
stands beside that to a mesh.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from avatar_models.heads.nphm import Nphm, surface
from avatar_models.heads.nphm.clouds import Clouds
from avatar_models.heads.nphm.fit import distances
from avatar_models.heads.nphm.linearised import FrameOptions, Observed, linearised
from avatar_models.heads.nphm.model import Codes
from avatar_models.heads.nphm.poses import Poses
from avatar_models.heads.nphm.shared_identity import States, find_identity
from avatar_models.heads.nphm.storage import read_nphm
from avatar_models.heads.nphm.tracking import Tracked, TrackingOptions, key_frames, track_frames
from avatar_models.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from pipelines.prior.scans import Expressions, LinearScans
from pipelines.prior.setup import Recipe

FRAMES, POINTS, TRUE_POINTS = 20, 5000, 2000
NOISE_M, OUTLIERS, OUTLIER_M = 0.0005, 0.03, 0.03
STAYING, CHANGING, PATCHES = 0.15, 0.15, 3
ROUGH_TURN, ROUGH_M = np.radians(5), 0.01
ON_MESH = 2_000_000


@dataclass(frozen=True)
class Seconds:
    cpu: float
    wall: float

    def since(self, before: Seconds) -> Seconds:
        return Seconds(self.cpu - before.cpu, self.wall - before.wall)


def now() -> Seconds:
    return Seconds(time.process_time(), time.perf_counter())


@dataclass(frozen=True)
class Sequence:
    """What a person did, and what is seen of it."""

    poses: Poses
    rough: Poses
    clean: Clouds
    noisy: Clouds
    true: Tensor  # (F, N, 3) points of the surface in the world


def performance(scans_of: Expressions, frames: int) -> Expressions:
    """From each of these expressions to the next."""
    places = np.linspace(0, len(scans_of) - 1, frames)
    before = np.minimum(places.astype(int), len(scans_of) - 2)
    share = torch.from_numpy(places - before).float()[:, None]
    first, second = ([values[torch.from_numpy(before + k)] for values in (scans_of.coefficients, scans_of.jaw)] for k in (0, 1))
    return Expressions(*((1 - share) * a + share * b for a, b in zip(first, second, strict=True)))


def moving(frames: int, random: np.random.Generator) -> Poses:
    t = np.linspace(0, 2 * np.pi, frames)[:, None]
    phase, places = random.uniform(0, 2 * np.pi, (1, 6)), random.uniform(0.5, 1, (1, 6))
    swing = np.sin(t * places + phase) * [np.radians(10), np.radians(20), np.radians(5), 0.05, 0.03, 0.05]
    swing = torch.from_numpy(swing).float()
    return Poses(axis_angle_to_matrix(swing[:, :3]), swing[:, 3:])


def without(points: Tensor, centers: Tensor, share: float) -> Tensor:
    """Points (N, 3) but for a share around centres (C, 3): which are left, (N,)."""
    distance = torch.cdist(points, centers).min(1).values
    left = torch.ones(len(points), dtype=torch.bool)
    left[distance.argsort()[: int(share * len(points))]] = False
    return left


def spoilt(points: Tensor, staying: Tensor, random: np.random.Generator) -> Tensor:
    """What is seen of points (N, 3) in the head's frame."""
    changing = points[torch.from_numpy(random.choice(len(points), PATCHES, replace=False))]
    seen = points[without(points, staying, STAYING) & without(points, changing, CHANGING)]
    seen = seen + torch.from_numpy(random.normal(0, NOISE_M, seen.shape)).float()
    outlier = torch.from_numpy(random.random(len(seen)) < OUTLIERS)
    return seen + outlier[:, None] * torch.from_numpy(random.normal(0, OUTLIER_M, seen.shape)).float()


def sequence_of(scans: LinearScans, person: int, seed: int) -> Sequence:
    random = np.random.default_rng([seed, person])
    poses = moving(FRAMES, random)
    wrong = random.normal(0, 1, (FRAMES, 2, 3))
    wrong *= np.array([ROUGH_TURN, ROUGH_M])[:, None] / np.linalg.norm(wrong, axis=2, keepdims=True)
    clean = [scans.on_surface(person, frame, POINTS, random)[0] for frame in range(FRAMES)]
    true = torch.stack([scans.on_surface(person, frame, TRUE_POINTS, random)[0] for frame in range(FRAMES)])
    staying = clean[0][torch.from_numpy(random.choice(POINTS, 1))]
    noisy = [spoilt(points, staying, random) for points in clean]

    def in_world(points: list[Tensor]) -> Clouds:
        return Clouds([poses[frame : frame + 1].to_world(some[None])[0] for frame, some in enumerate(points)])

    rough = poses.stepped(torch.from_numpy(wrong).float().flatten(1))
    return Sequence(poses, rough, in_world(clean), in_world(noisy), poses.to_world(true))


@dataclass(frozen=True)
class Result:
    surface: float  # mm
    turn: float  # degrees
    move: float  # mm
    shaking: float  # degrees
    drifting: float  # mm
    of_identity: Seconds
    of_frames: Seconds


def result_of(model: Nphm, clouds: Clouds, sequence: Sequence, options: TrackingOptions) -> tuple[Result, Tracked]:
    """The two stages of `track`, timed apart."""
    keys = key_frames(FRAMES, options.key_frames)
    began = now()
    geometry, of_keys = find_identity(model, clouds, keys.tolist(), sequence.rough[keys], options.identity)
    between = now()
    states, misfit = track_frames(model, geometry, clouds, keys, of_keys, options.frames)
    ended = now()
    found = Tracked(Codes(geometry, torch.zeros_like(geometry), states.expression), states.poses, misfit)
    turn, move = found.poses.apart(sequence.poses)
    errors = [surface_error(model, found, sequence.true, frame) for frame in range(FRAMES)]
    shaking, drifting = unsteady(found.poses, sequence.poses)
    means = float(np.mean(errors)), float(turn.rad2deg().mean()), 1e3 * float(move.mean()), shaking, drifting
    return Result(*means, between.since(began), ended.since(between)), found


def unsteady(found: Poses, true: Poses) -> tuple[float, float]:
    """Mean error of poses but for a turn and a move of the head's frame that are the same in all frames: degrees, mm."""
    turn = matrix_to_axis_angle(true.rotation.mT @ found.rotation)
    move = true.to_head(found.translation[:, None])[:, 0]
    rest = [(values - values.mean(0)).norm(dim=1).mean() for values in (turn, move)]
    return float(rest[0].rad2deg()), 1e3 * float(rest[1])


def field_of(model: Nphm, found: Tracked, frame: int) -> Callable[[Tensor], Tensor]:
    """Distances of points (N, 3) in the head's frame."""
    expression = found.codes.expression[frame : frame + 1]
    codes = Codes(found.codes.geometry, found.codes.appearance, expression)
    return lambda x: model.sdf(x[None], codes)[0]


def surface_error(model: Nphm, found: Tracked, true: Tensor, frame: int) -> float:
    """Mean distance of a frame's true points, of (F, N, 3) in the world, from the fitted surface, mm."""
    points = found.poses[frame : frame + 1].to_head(true[frame : frame + 1])[0]
    return 1e3 * float(distances(field_of(model, found, frame), points).mean())


def by_mesh(model: Nphm, found: Tracked, true: Tensor, frame: int) -> float:
    """The same to the nearest of two million points of a mesh of the fitted surface."""
    points = found.poses[frame : frame + 1].to_head(true[frame : frame + 1])[0]
    box = (-0.16, -0.26, -0.24), (0.16, 0.2, 0.14)
    mesh = surface(field_of(model, found, frame), 0.0015, box)
    corners, random = mesh.vertices[mesh.faces], torch.Generator().manual_seed(0)
    area = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).norm(dim=1)
    some = corners[torch.multinomial(area, ON_MESH, replacement=True, generator=random)]
    u, v = torch.rand(ON_MESH, 1, generator=random).sqrt(), torch.rand(ON_MESH, 1, generator=random)
    on_mesh = (1 - u) * some[:, 0] + u * (1 - v) * some[:, 1] + u * v * some[:, 2]
    return 1e3 * float(cKDTree(on_mesh.numpy()).query(points.numpy())[0].mean())


def main() -> None:
    prior, file = Path(sys.argv[1]), sys.argv[2]
    people = int(sys.argv[3]) if len(sys.argv) > 3 else 3
    torch.set_num_threads(1)
    stored = read_nphm(prior)
    model = stored.model
    scans = Recipe(stored.facts["options"], str(Path(file).resolve())).prepare("cpu").unseen
    mixtures = stored.facts["options"]["unseen"]
    last = Expressions(scans.expressions.coefficients[-mixtures:], scans.expressions.jaw[-mixtures:])
    scans.expressions = performance(last, FRAMES)
    options = TrackingOptions()
    warm_up(model)
    rows: dict[str, list[Result]] = {"noisy": [], "clean": []}
    for person in range(people):
        sequence = sequence_of(scans, person, 3)
        for name, clouds in (("noisy", sequence.noisy), ("clean", sequence.clean)):
            result, found = result_of(model, clouds, sequence, options)
            rows[name].append(result)
            print(f"unseen person {person}, {name}: {line(*errors_of(result))}; {times(result)}", flush=True)
            if person == 0 and name == "noisy":
                newton, mesh = (error(model, found, sequence.true, 0) for error in (surface_error, by_mesh))
                print(f"    frame 0 by Newton's steps {newton:.3f} mm, by a mesh {mesh:.3f} mm", flush=True)
    for name, results in rows.items():
        print(f"{name}: {line(*(float(np.mean(values)) for values in zip(*map(errors_of, results), strict=True)))}")
    ratio = sum(result.surface for result in rows["noisy"]) / sum(result.surface for result in rows["clean"])
    print(f"surface, noisy over clean: {ratio:.2f}")


def warm_up(model: Nphm) -> None:
    """Once, so that no kernel is compiled while the clock runs."""
    states = States(model.zero_codes(2).expression, Poses.still(2))
    linearised(model, model.zero_codes(1).geometry, states, Observed.of_points(torch.zeros(2, 64, 3)), FrameOptions())


def errors_of(result: Result) -> tuple[float, float, float, float, float]:
    return result.surface, result.turn, result.move, result.shaking, result.drifting


def line(surface_mm: float, turn: float, move: float, shaking: float, drifting: float) -> str:
    pose = f"pose {turn:.2f} degrees and {move:.2f} mm, of which change {shaking:.2f} degrees and {drifting:.2f} mm"
    return f"surface {surface_mm:.2f} mm, {pose}"


def times(result: Result) -> str:
    frames = result.of_frames
    return (
        f"identity {result.of_identity.cpu:.1f} s of CPU, then {FRAMES / frames.cpu:.1f} frames/s of CPU, "
        f"{FRAMES / frames.wall:.1f} by the clock"
    )


if __name__ == "__main__":
    main()
