"""How well the tracker finds what made-up people did: clips of 200 frames of five identities, focal length unknown.

    python -m bench.tracking_truth [FOLDER]

Each person is tracked twice: from what the detector sees in the pictures, and from exact landmarks. With a FOLDER the
detections are kept there and used again.

The vertex error is taken over the front of the face in the camera's frame, after one rigid alignment for the whole clip.
Mouth and lids are distances between landmarks of the upper and the lower lip and lid, in three dimensions.
"""

from __future__ import annotations

import sys
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from avatar_models.cameras import Camera, project
from avatar_models.heads.procedural import procedural_head
from avatar_models.heads.procedural_mesh import SKIN, head_mesh
from avatar_models.people import camera_for, film, make_person, perform, viewmats
from avatar_models.tracking.detect import FaceTracker
from avatar_models.tracking.fit import ClipFit, fit_clip

SEEDS, FRAMES, FPS, SIZE = (101, 102, 103, 104, 105), 200, 25.0, 512
LIPS, LIDS = (13, 14), ((159, 145), (386, 374))
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Truth:
    """What one made-up person did, in the camera's frame. N frames, V vertices of the face's front."""

    rotations: Array  # (N, 3, 3)
    vertices: Array  # (N, V, 3) metres
    landmarks: Array  # (N, 478, 3) metres
    pixels: Array  # (N, 478, 2) exact projections
    focal: float  # pixels


def front() -> NDArray[np.int64]:
    """Vertices of the face's front: skin from the brows to the chin, before the ears."""
    mesh = head_mesh()
    x, y, z = mesh.vertices.T
    return np.flatnonzero((mesh.part == SKIN) & (z > 0) & (y > -95) & (y < 60) & (np.abs(x) < 60))


def in_camera(identity: Array, expression: Array, jaw: Array, eyes: Array, views: Array) -> tuple[Array, Array]:
    """Front vertices (N, V, 3) and landmarks (N, 478, 3) in the camera's frame, metres."""
    head, chosen = procedural_head(), front()
    found = [], []
    for k, view in enumerate(views):
        values = (identity, expression[k], np.zeros(3), jaw[k], eyes[k])
        vertices = head.vertices(*(torch.tensor(np.asarray(value, np.float64))[None] for value in values))
        for points, kept in ((vertices[:, chosen], found[0]), (head.landmarks(vertices), found[1])):
            kept.append(points[0].numpy() @ view[:3, :3].T + view[:3, 3])
    return np.stack(found[0]), np.stack(found[1])


def truth(seed: int) -> Truth:
    person, performance = make_person(seed), perform(seed, FRAMES, FPS)
    K, distance = camera_for(SIZE)
    views = viewmats(performance, distance)
    vertices, landmarks = in_camera(person.identity, performance.expression, performance.jaw, performance.eyes, views)
    camera = Camera(torch.tensor(K).expand(FRAMES, 3, 3), torch.eye(4).double().expand(FRAMES, 4, 4), SIZE, SIZE)
    return Truth(views[:, :3, :3], vertices, landmarks, project(torch.tensor(landmarks), camera).numpy(), float(K[0, 0]))


def detections(seed: int, folder: Path | None) -> tuple[Array, NDArray[np.int64]]:
    """What the detector sees (M, 478, 3) in the pictures of a person, and in which frames."""
    kept = folder / f"{seed}.npz" if folder else None
    if kept and kept.exists():
        stored = np.load(kept)
        return stored["points"], stored["frames"]
    person, performance = make_person(seed), perform(seed, FRAMES, FPS)
    K, distance = camera_for(SIZE)
    views = viewmats(performance, distance)
    points, frames = [], []
    with closing(FaceTracker(1.0)) as tracker:
        for k in range(FRAMES):
            seen = tracker.observe(film(person, performance, k, SIZE, views[k], K), k / FPS)
            if seen is not None:
                points.append(seen.points)
                frames.append(k)
    found = np.asarray(points, np.float64), np.asarray(frames)
    if kept:
        np.savez(kept, points=found[0], frames=found[1])
    return found


def rigidly_aligned(found: Array, wanted: Array) -> Array:
    """found (..., 3) moved by the one rotation and translation that bring it nearest to wanted."""
    a, b = found.reshape(-1, 3), wanted.reshape(-1, 3)
    U, _, Vt = np.linalg.svd((a - a.mean(0)).T @ (b - b.mean(0)))
    R = Vt.T @ np.diag([1, 1, np.sign(np.linalg.det(Vt.T @ U.T))]) @ U.T
    return (found - a.mean(0)) @ R.T + b.mean(0)


def opening(landmarks: Array, upper: int, lower: int) -> Array:
    return np.linalg.norm(landmarks[:, upper] - landmarks[:, lower], axis=-1)


def judge(fit: ClipFit, wanted: Truth, frames: NDArray[np.int64]) -> dict[str, float]:
    vertices, landmarks = in_camera(fit.identity, fit.expression, fit.jaw, fit.eyes, fit.viewmat)
    error = np.linalg.norm(rigidly_aligned(vertices, wanted.vertices[frames]) - wanted.vertices[frames], axis=-1)
    turned = fit.viewmat[:, :3, :3] @ wanted.rotations[frames].transpose(0, 2, 1)
    angle = np.degrees(np.arccos(np.clip((np.trace(turned, axis1=1, axis2=2) - 1) / 2, -1, 1)))
    correlation = lambda pair: np.corrcoef(opening(landmarks, *pair), opening(wanted.landmarks[frames], *pair))[0, 1]  # noqa: E731
    return {
        "vertices mm": float(np.median(error)) * 1e3,
        "rotation deg": float(np.median(angle)),
        "mouth corr": float(correlation(LIPS)),
        "blink corr": float(np.mean([correlation(pair) for pair in LIDS])),
        "focal error %": 100 * abs(float(fit.K[0, 0, 0]) / wanted.focal - 1),
        "reprojection %": 100 * float(np.median(fit.reprojection)),
    }


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    head = procedural_head()
    whole = lambda count: np.tile(np.array([[0.0, 0.0, 1.0]], np.float32), (count, 1))  # noqa: E731
    for what in ("detector", "exact"):
        rows = []
        for seed in SEEDS:
            wanted = truth(seed)
            points, frames = detections(seed, folder) if what == "detector" else (wanted.pixels, np.arange(FRAMES))
            start = time.perf_counter()
            fit = fit_clip(head, points.astype(np.float32), whole(len(points)), (SIZE, SIZE), iterations=15, smoothness=1.0)
            seconds = time.perf_counter() - start
            rows.append({**judge(fit, wanted, frames), "frames": len(frames), "frames/s": len(frames) / seconds})
            print(what, seed, "  ".join(f"{name} {value:.3f}" for name, value in rows[-1].items()), flush=True)
        print(what, "median", "  ".join(f"{name} {np.median([row[name] for row in rows]):.3f}" for name in rows[0]))


if __name__ == "__main__":
    main()
