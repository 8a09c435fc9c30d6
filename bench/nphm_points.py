"""How well heads are found again in noisy, incomplete clouds of points of people that the prior has never seen.

    python -m bench.nphm_points PRIOR ICT_NPZ [PEOPLE]

PRIOR is a folder of a neural head trained on ICT-FaceKit's people torch.randn(90, 100, generator=manual_seed(1))[:80]; those from
row 80 on are asked for. Each does 20 frames: random mixtures of expressions that training has not seen, gone through one after the
other, while the head turns by up to 20 degrees and moves by up to 5 cm. A frame's cloud has 3,500 points with Gaussian noise of
0.5 mm: of 5,000 on the surface, 15 % are missing around a place that stays the same, 15 % around three that are other ones in each
frame. 3 % of those left are off by centimetres. Rough poses are wrong by 5 degrees and 1 cm, as landmarks would have it.

Prints for each person, and for the same method with complete points without noise: the mean distance of true points of the whole
surface from the fitted one, in the world, what errors of the pose do included; the pose's error; and frames a second, of all and
without the identity's share. One thread.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from avatar_models.heads.nphm import Nphm, surface
from avatar_models.heads.nphm.clouds import Clouds
from avatar_models.heads.nphm.fit import distances
from avatar_models.heads.nphm.model import Codes
from avatar_models.heads.nphm.poses import Poses
from avatar_models.heads.nphm.shared_identity import find_identity
from avatar_models.heads.nphm.storage import read_nphm
from avatar_models.heads.nphm.tracking import Tracked, TrackingOptions, key_frames, track_frames
from avatar_models.rotations import axis_angle_to_matrix
from pipelines.heads import read_model
from pipelines.prior.scans import Expressions, LinearScans, expressions_of

FRAMES, POINTS, TRUE_POINTS = 20, 5000, 2000
NOISE_M, OUTLIERS, OUTLIER_M = 0.0005, 0.03, 0.03
STAYING, CHANGING, PATCHES = 0.15, 0.15, 3
ROUGH_TURN, ROUGH_M = np.radians(5), 0.01
MIXTURES = 5
UNSEEN = 80


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
    error: float  # mm
    turn: float  # degrees
    move: float  # mm
    identity_s: float
    frames_s: float


def result_of(model: Nphm, clouds: Clouds, sequence: Sequence, options: TrackingOptions) -> tuple[Result, Tracked]:
    """The two stages of `track`, timed apart."""
    keys = key_frames(FRAMES, options.key_frames)
    began = time.perf_counter()
    geometry, of_keys = find_identity(model, clouds, keys.tolist(), sequence.rough[keys], options.identity)
    between = time.perf_counter()
    states, misfit = track_frames(model, geometry, clouds, keys, of_keys, options.frames)
    ended = time.perf_counter()
    found = Tracked(Codes(geometry, torch.zeros_like(geometry), states.expression), states.poses, misfit)
    turn, move = found.poses.apart(sequence.poses)
    error = surface_error(model, found, sequence.true)
    times = between - began, ended - between
    return Result(1e3 * error, float(turn.rad2deg().mean()), 1e3 * float(move.mean()), *times), found


def codes_of(found: Tracked, frame: int) -> Codes:
    return Codes(found.codes.geometry, found.codes.appearance, found.codes.expression[frame : frame + 1])


def surface_error(model: Nphm, found: Tracked, true: Tensor) -> float:
    """Mean distance of true points (F, N, 3) from the fitted surfaces, metres."""
    in_head = found.poses.to_head(true)
    return float(
        torch.stack(
            [
                distances(lambda x, codes=codes_of(found, f): model.sdf(x[None], codes)[0], points)
                for f, points in enumerate(in_head)
            ]
        ).mean()
    )


def by_marching_cubes(model: Nphm, found: Tracked, true: Tensor, frame: int) -> float:
    """The same of one frame, to the vertices and triangles' centres of a fine mesh, whose own spacing is in it."""
    codes = codes_of(found, frame)
    mesh = surface(lambda x: model.sdf(x[None], codes)[0], 0.0006)
    corners = mesh.vertices[mesh.faces]
    normal = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    kept = normal.norm(dim=1) > 1e-12
    centers, normal = corners.mean(1)[kept], torch.nn.functional.normalize(normal[kept], dim=1)
    from scipy.spatial import cKDTree

    points = found.poses[frame : frame + 1].to_head(true[frame : frame + 1])[0]
    _, nearest = cKDTree(centers.numpy()).query(points.numpy())
    return float(((points - centers[nearest]) * normal[nearest]).sum(1).abs().mean())


def main() -> None:
    prior, file = Path(sys.argv[1]), sys.argv[2]
    people = int(sys.argv[3]) if len(sys.argv) > 3 else 3
    torch.set_num_threads(1)
    model = read_nphm(prior).model
    linear = read_model("ict", file)
    linear = replace(linear, rig=linear.rig.to(dtype=torch.float32))
    identities = torch.randn(90, 100, generator=torch.Generator().manual_seed(1))[UNSEEN : UNSEEN + people]
    mixed = expressions_of(linear.rig, True, MIXTURES, seed=7)
    last = Expressions(mixed.coefficients[-MIXTURES:], mixed.jaw[-MIXTURES:])
    scans = LinearScans(linear, identities, performance(last, FRAMES), torch.zeros(0, dtype=torch.int64))
    options = TrackingOptions()
    rows = []
    for person in range(people):
        sequence = sequence_of(scans, person, 3)
        for name, clouds in (("noisy", sequence.noisy), ("clean", sequence.clean)):
            result, found = result_of(model, clouds, sequence, options)
            rows.append((name, result))
            print(
                f"person {UNSEEN + person}, {name}: surface {result.error:.2f} mm, pose {result.turn:.2f} degrees and "
                f"{result.move:.2f} mm; identity {result.identity_s:.1f} s, then {FRAMES / result.frames_s:.1f} frames/s, "
                f"with it {FRAMES / (result.frames_s + result.identity_s):.2f}",
                flush=True,
            )
            if person == 0:
                mesh = 1e3 * by_marching_cubes(model, found, sequence.true, 0)
                newton = 1e3 * surface_error(
                    model,
                    Tracked(codes_of(found, 0), found.poses[:1], found.misfit[:1]),
                    sequence.true[:1],
                )
                print(f"    frame 0 by marching cubes {mesh:.3f} mm, by Newton's steps {newton:.3f} mm", flush=True)
    means = {name: np.mean([[r.error, r.turn, r.move] for n, r in rows if n == name], 0) for name in ("noisy", "clean")}
    for name, (error, turn, move) in means.items():
        print(f"{name}: surface {error:.2f} mm, pose {turn:.2f} degrees and {move:.2f} mm")
    print(f"surface error, noisy over clean: {means['noisy'][0] / means['clean'][0]:.2f}")


if __name__ == "__main__":
    main()
