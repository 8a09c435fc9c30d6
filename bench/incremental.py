"""What a change costs: nothing changed, one clip added to ten, one parameter that only training reads.

    python -m bench.incremental

Prints the time of each `dvc repro` and each stage's own summary line.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from bench.workspace import Finished, cut_clip, make_workspace, real_clips

SMALL = {
    "train_headgas.steps": 40,
    "train_headgas.resolution": 64,
    "train_headgas.num_gaussians": 500,
    "evaluate.max_frames": 5,
}


def show(what: str, finished: Finished) -> None:
    print(f"\n== {what}: exit {finished.status}, {finished.seconds:.1f} s")
    for line in finished.output.splitlines():
        if any(word in line for word in ("quarantined", "Running stage", "skipping", "up to date", "ERROR", "rror:")):
            print("   ", line.strip())


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        workspace = make_workspace(Path(scratch) / "project", SMALL)
        clips = real_clips()
        for number in range(11):
            source = clips[number % len(clips)]
            cut_clip(source, Path(scratch) / "clips" / f"clip{number:02d}.mp4", frames=40)
        paths = sorted((Path(scratch) / "clips").iterdir())
        workspace.add_videos(paths[:10])
        show("ten clips, from nothing", workspace.repro())
        show("nothing changed", workspace.repro())
        workspace.set_params({"train_headgas.steps": 50})
        show("one parameter that only training reads", workspace.repro())
        workspace.add_videos(paths[10:])
        show("one clip added to ten", workspace.repro())


if __name__ == "__main__":
    main()
