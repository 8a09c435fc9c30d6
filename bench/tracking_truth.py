"""How well the tracker finds what made-up people did: clips of 200 frames of five identities, focal length unknown.

    python -m bench.tracking_truth [FOLDER]

Each person is tracked three times: from what the detector sees in the pictures, from that and the pictures themselves
(`fit_photometric`), and from exact landmarks. With a FOLDER the detections are kept there and used again.

The vertex error is the median over the front of the face, after one rigid alignment for the whole clip: once in the head's
frame, for shape and expression, and once in the camera's, where the pose and the unknown distance count too. The mouth is the
distance between landmarks of the upper and the lower lip in three dimensions, a blink the coefficient of eyeBlink. Exact
landmarks are given to a head that knows of no habits of the detector.
"""

from __future__ import annotations

import sys
import time
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from avatar_models.cameras import Camera, project
from avatar_models.heads.procedural import procedural_head
from avatar_models.people import camera_for, film, make_person, perform, viewmats
from avatar_models.tracking.detect import FaceTracker
from avatar_models.tracking.fit import ClipFit, fit_clip

SEEDS, FRAMES, FPS, SIZE = (101, 102, 103, 104, 105), 200, 25.0, 512
LIPS = (13, 14)
Array = NDArray[np.float64]
IN_FRONT: Array = np.eye(4)


@dataclass(frozen=True)
class Truth:
    """What one made-up person did, in the camera's frame. N frames, V vertices of the face's front."""

    rotations: Array  # (N, 3, 3)
    vertices: Array  # (N, V, 3) metres
    in_head: Array  # (N, V, 3) metres, in the head's own frame
    landmarks: Array  # (N, 478, 3) metres
    blinks: Array  # (N,) mean of both eyes' coefficients
    pixels: Array  # (N, 478, 2) exact projections
    focal: float  # pixels


def in_camera(identity: Array, expression: Array, jaw: Array, eyes: Array, views: Array) -> tuple[Array, Array]:
    """Front vertices (N, V, 3) and landmarks (N, 478, 3) in the camera's frame, metres."""
    head, chosen = procedural_head(), procedural_head().masks["face"]
    found = [], []
    for k, view in enumerate(views):
        values = (identity, expression[k], np.zeros(3), jaw[k], eyes[k])
        vertices = head.vertices(*(torch.tensor(np.asarray(value, np.float64))[None] for value in values))
        for points, kept in ((vertices[:, chosen], found[0]), (head.landmarks(vertices), found[1])):
            kept.append(points[0].numpy() @ view[:3, :3].T + view[:3, 3])
    return np.stack(found[0]), np.stack(found[1])


def truth(seed: int, count: int = FRAMES, moved: Array = IN_FRONT) -> Truth:
    """`moved` (4, 4) brings the frame of the camera in front to that of the camera that films."""
    person, performance = make_person(seed), perform(seed, count, FPS)
    K, distance = camera_for(SIZE)
    views = moved @ viewmats(performance, distance)
    vertices, landmarks = in_camera(person.identity, performance.expression, performance.jaw, performance.eyes, views)
    camera = Camera(torch.tensor(K).expand(count, 3, 3), torch.eye(4).double().expand(count, 4, 4), SIZE, SIZE)
    still = np.tile(np.eye(4), (count, 1, 1))
    in_head, _ = in_camera(person.identity, performance.expression, performance.jaw, performance.eyes, still)
    shut = blinks(performance.expression)
    return Truth(
        views[:, :3, :3], vertices, in_head, landmarks, shut, project(torch.tensor(landmarks), camera).numpy(), float(K[0, 0])
    )


def blinks(expression: NDArray[np.floating]) -> Array:
    names = procedural_head().expression_names
    return np.asarray(expression[:, [names.index("eyeBlinkLeft"), names.index("eyeBlinkRight")]].mean(1), np.float64)


def filmed(seed: int, count: int = FRAMES, moved: Array = IN_FRONT) -> NDArray[np.uint8]:
    """Pictures (count, SIZE, SIZE, 3) of what a person does, by the camera that `moved` brings the one in front to."""
    person, performance = make_person(seed), perform(seed, count, FPS)
    K, distance = camera_for(SIZE)
    views = moved @ viewmats(performance, distance)
    return np.stack([film(person, performance, k, SIZE, views[k], K) for k in range(count)])


def detections(seed: int, pictures: NDArray[np.uint8], folder: Path | None, name: str = "") -> tuple[Array, NDArray[np.int64]]:
    """What the detector sees (M, 478, 3) in the pictures of a person, and in which frames."""
    kept = folder / f"{seed}{name}.npz" if folder else None
    if kept and kept.exists():
        stored = np.load(kept)
        return stored["points"], stored["frames"]
    points, frames = [], []
    with closing(FaceTracker(1.0)) as tracker:
        for k, picture in enumerate(pictures):
            seen = tracker.observe(picture, k / FPS)
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
    in_head, _ = in_camera(fit.identity, fit.expression, fit.jaw, fit.eyes, np.tile(np.eye(4), (len(frames), 1, 1)))
    error = lambda a, b: 1e3 * float(np.median(np.linalg.norm(rigidly_aligned(a, b) - b, axis=-1)))  # noqa: E731
    turned = fit.viewmat[:, :3, :3] @ wanted.rotations[frames].transpose(0, 2, 1)
    angle = np.degrees(np.arccos(np.clip((np.trace(turned, axis1=1, axis2=2) - 1) / 2, -1, 1)))
    return {
        "vertices mm": error(in_head, wanted.in_head[frames]),
        "in the camera mm": error(vertices, wanted.vertices[frames]),
        "rotation deg": float(np.median(angle)),
        "mouth corr": float(np.corrcoef(opening(landmarks, *LIPS), opening(wanted.landmarks[frames], *LIPS))[0, 1]),
        "blink corr": float(np.corrcoef(blinks(fit.expression), wanted.blinks[frames])[0, 1]),
        "focal error %": 100 * abs(float(fit.K[0, 0, 0]) / wanted.focal - 1),
        "reprojection %": 100 * float(np.median(fit.reprojection)),
    }


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    seen = procedural_head()
    plain = replace(
        seen, embedding=replace(seen.embedding, offsets=0 * seen.embedding.offsets, slides=0 * seen.embedding.slides)
    )
    pictures = {seed: filmed(seed) for seed in SEEDS}
    for what in ("detector", "detector and pictures", "exact"):
        rows = []
        for seed in SEEDS:
            wanted = truth(seed)
            if what == "exact":
                points, frames = wanted.pixels, np.arange(FRAMES)
            else:
                points, frames = detections(seed, pictures[seed], folder)
            start = time.process_time()
            fit = fit_clip(
                plain if what == "exact" else seen, points.astype(np.float32),
                np.tile(np.array([[0.0, 0.0, 1.0]], np.float32), (len(points), 1)), (SIZE, SIZE), iterations=15, smoothness=1.0,
                times=frames / FPS, pictures=pictures[seed][frames] if what == "detector and pictures" else None,
            )  # fmt: skip
            seconds = time.process_time() - start
            rows.append({**judge(fit, wanted, frames), "frames": len(frames), "frames per CPU s": len(frames) / seconds})
            print(what, seed, "  ".join(f"{name} {value:.3f}" for name, value in rows[-1].items()), flush=True)
        print(what, "median", "  ".join(f"{name} {np.median([row[name] for row in rows]):.3f}" for name in rows[0]), flush=True)


if __name__ == "__main__":
    main()
