"""How well the tracker follows real clips: distance to the detections, shake, and whether lips keep moving.

    python -m bench.tracking_real HEAD [HEAD_FILE [FOLDER]]

With a FOLDER the detections are kept there and used again. Distances are means over all points less the face's contour,
over the distance between the eyes; shake is the mean length of the second difference of points over time.
"""

from __future__ import annotations

import sys
import time
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from avatar_models.tracking.detect import FaceTracker
from avatar_models.tracking.fit import fit_clip
from avatar_models.tracking.quality import INNER, inter_ocular
from bench.workspace import real_clips
from pipelines.decode import open_decoder, pick_frames
from pipelines.heads import load_head
from pipelines.probe import probe_video

FRAMES = 300
LIPS = (13, 14)


def detections(path: Path, folder: Path | None) -> tuple[NDArray[np.float32], NDArray[np.float64], tuple[int, int]]:
    """(points (N, 478, 3) in source pixels, times (N,), source size) of the first FRAMES frames."""
    kept = folder / f"{path.stem}.npz" if folder else None
    if kept and kept.exists():
        stored = np.load(kept)
        return stored["points"], stored["times"], tuple(stored["size"].tolist())
    facts = probe_video(path)
    wanted = pick_frames(facts.times, 30.0, FRAMES)
    points, times = [], []
    with closing(FaceTracker(1.0)) as tracker:
        for index, picture in open_decoder(path, facts, 1 << 30).frames(wanted.tolist()):
            seen = tracker.observe(picture, float(facts.times[index]))
            if seen is not None:
                points.append(seen.points)
                times.append(facts.times[index])
    found = np.array(points, np.float32), np.array(times), (facts.width, facts.height)
    if kept:
        np.savez(kept, points=found[0], times=found[1], size=found[2])
    return found


def shake(points: NDArray[np.floating], steady: NDArray[np.bool_], eyes: NDArray[np.float64]) -> float:
    second = np.linalg.norm(np.diff(points[:, INNER, :2], 2, axis=0), axis=-1).mean(1) / eyes[1:-1]
    return float(second[steady].mean())


def main() -> None:
    head = load_head(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "")
    folder = Path(sys.argv[3]) if len(sys.argv) > 3 else None
    print(f"{'clip':14} frames  error %  shake %  detected %  ratio  lips kept  frames/s")
    rows = []
    for path in real_clips():
        points, times, size = detections(path, folder)
        whole = np.tile(np.array([[0.0, 0.0, 1.0]], np.float32), (len(points), 1))
        start = time.perf_counter()
        fit = fit_clip(head, points, whole, size, iterations=15, smoothness=1.0, times=times)
        seconds = time.perf_counter() - start
        eyes = inter_ocular(points)
        distance = np.linalg.norm(fit.projected - points[..., :2], axis=-1)[:, INNER].mean(1) / eyes
        intervals = np.diff(times) < 1.6 * np.median(np.diff(times))
        steady = intervals[:-1] & intervals[1:]
        gap = [np.linalg.norm(p[:, LIPS[0], :2] - p[:, LIPS[1], :2], axis=-1) / eyes for p in (fit.projected, points)]
        spread = [np.subtract(*np.percentile(g, [95, 5])) for g in gap]
        shakes = shake(fit.projected, steady, eyes), shake(points, steady, eyes)
        rows.append((100 * distance.mean(), 100 * shakes[0], 100 * shakes[1], shakes[0] / shakes[1], spread[0] / spread[1]))
        error, own, theirs, ratio, lips = rows[-1]
        print(
            f"{path.stem:14} {len(points):6} {error:8.2f} {own:8.3f} {theirs:11.3f} {ratio:6.2f} {lips:10.2f}"
            f" {len(points) / seconds:9.0f}",
            flush=True,
        )
    table = np.array(rows)
    print(f"mean error {table[:, 0].mean():.2f} %, worst {table[:, 0].max():.2f} %; shake ratio mean {table[:, 3].mean():.2f}, "
          f"worst {table[:, 3].max():.2f}; lips kept {np.median(table[:, 4]):.2f}")  # fmt: skip


if __name__ == "__main__":
    main()
