"""How much better a head is found by four known cameras than by one: made-up people, the detector in the loop.

    python -m bench.tracking_views [FOLDER]

Five identities, 60 frames each, filmed by cameras at -45, -15, 15 and 45 degrees about the head. One camera is the one at -15:
with its focal length unknown, as of any video, and known. Errors are those of `bench.tracking_truth`; "in the camera" is the
world's frame for four cameras. With a FOLDER the detections are kept there and used again.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from avatar_models.heads.procedural import procedural_head
from avatar_models.people import camera_for
from avatar_models.tracking.fit import View, fit_clip, fit_views
from bench.tracking_truth import FPS, SEEDS, SIZE, detections, filmed, judge, truth

FRAMES, PLACES, ALONE = 60, (-45.0, -15.0, 15.0, 45.0), 1
SHOWN = ("vertices mm", "in the camera mm", "rotation deg", "mouth corr", "blink corr")
Array = NDArray[np.float64]


def beside(degrees: float) -> Array:
    """(4, 4) from the frame of the camera in front, the world's, to that of one turned about the head."""
    a, distance = np.radians(degrees), camera_for(SIZE)[1]
    turn = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    viewmat = np.eye(4)
    viewmat[:3, :3] = turn
    viewmat[:3, 3] = (np.eye(3) - turn) @ [0, 0, distance]
    return viewmat


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    head, K = procedural_head(), camera_for(SIZE)[0]
    rows: dict[str, list[dict[str, float]]] = {"one camera": [], "one, focal known": [], "four cameras": []}
    for seed in SEEDS:
        views = []
        for degrees in PLACES:
            points, frames = detections(seed, filmed(seed, FRAMES, beside(degrees)), folder, f"_{degrees:g}")
            whole = np.tile(np.array([[0.0, 0.0, 1.0]], np.float32), (len(points), 1))
            views.append(View(points.astype(np.float32), whole, frames, K, beside(degrees)))
        start, alone = time.process_time(), views[ALONE]
        fit = fit_views(head, views, iterations=15, smoothness=1.0, times=np.arange(FRAMES) / FPS)
        seconds = time.process_time() - start
        together = replace(fit.views[0], viewmat=fit.viewmat, expression=fit.expression, jaw=fit.jaw, eyes=fit.eyes)
        rows["four cameras"].append(judge(together, truth(seed, FRAMES), np.arange(FRAMES)))
        wanted = truth(seed, FRAMES, beside(PLACES[ALONE]))
        for name, focal in (("one camera", None), ("one, focal known", float(K[0, 0]))):
            single = fit_clip(
                head, alone.points, alone.crop, (SIZE, SIZE), iterations=15, smoothness=1.0, focal=focal,
                times=alone.frames / FPS,
            )  # fmt: skip
            rows[name].append(judge(single, wanted, alone.frames))
        seen = ", ".join(str(len(view.frames)) for view in views)
        print(f"{seed}: faces found in {seen} of {FRAMES} frames; four cameras fitted in {seconds:.1f} s of the processor")
        for name, judged in rows.items():
            print(f"  {name:17}", "  ".join(f"{key} {judged[-1][key]:.3f}" for key in SHOWN), flush=True)
    print("medians")
    for name, judged in rows.items():
        print(f"  {name:17}", "  ".join(f"{key} {np.median([row[key] for row in judged]):.3f}" for key in SHOWN))


if __name__ == "__main__":
    main()
