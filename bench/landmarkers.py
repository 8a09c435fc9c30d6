"""FaceMesh against the FaceLandmarker task: how far their points lie apart, how much they shake, and CPU time a frame.

    python -m bench.landmarkers face_landmarker.task VIDEO [VIDEO ...]

The first hundred frames of each video, through the whole face tracker. Distances are over the distance between the eyes.
"""

from __future__ import annotations

import sys
import time
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from avatar_models.tracking.detect import FaceTracker
from avatar_models.tracking.landmarker_file import read_landmarker
from avatar_models.tracking.quality import FACE_OVAL, INNER, IRISES, LIPS, inter_ocular, jitter

FRAMES, FPS = 100, 25.0


def frames_of(path: Path) -> list[NDArray[np.uint8]]:
    capture = cv2.VideoCapture(str(path))
    frames: list[NDArray[np.uint8]] = []
    while len(frames) < FRAMES:
        there, frame = capture.read()
        if not there:
            break
        frames.append(np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), np.uint8))
    return frames


def track(frames: list[NDArray[np.uint8]], task: bytes | None) -> tuple[dict[int, NDArray[np.float32]], float]:
    """Points by frame, and CPU milliseconds a frame once the face is found."""
    found = {}
    with closing(FaceTracker(1.0, task=task)) as tracker:
        tracker.observe(frames[0], 0.0)
        start = time.process_time()
        for k, frame in enumerate(frames):
            seen = tracker.observe(frame, k / FPS)
            if seen is not None:
                found[k] = seen.points
        return found, 1e3 * (time.process_time() - start) / len(frames)


def main() -> None:
    task = read_landmarker(Path(sys.argv[1]))
    for path in map(Path, sys.argv[2:]):
        frames = frames_of(path)
        (mesh, mesh_ms), (other, task_ms) = track(frames, None), track(frames, task)
        both = sorted(set(mesh) & set(other))
        a, b = (np.array([found[k] for k in both], np.float64)[..., :2] for found in (mesh, other))
        apart = 100 * np.linalg.norm(a - b, axis=-1) / inter_ocular(a)[:, None]
        still = 100 * np.linalg.norm((a - b).mean(0), axis=-1) / inter_ocular(a).mean()
        parts = {"inner": INNER, "lips": LIPS, "irises": IRISES, "oval": FACE_OVAL}
        by_part = "  ".join(f"{name} {np.median(apart[:, part]):.2f}" for name, part in parts.items())
        print(f"{path.name} apart %  {by_part}", end="  ")
        print(f"of it the same in all frames {np.median(still[INNER]):.2f}", end="  ")
        shake = [100 * np.median(jitter(points, np.array(both))) for points in (a, b)]
        print(f"shake % {shake[0]:.2f} {shake[1]:.2f}  CPU ms {mesh_ms:.1f} {task_ms:.1f}  frames {len(both)}", flush=True)


if __name__ == "__main__":
    main()
