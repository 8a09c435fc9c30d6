"""How fast `headwater overlay` draws, on one core.

    python -m bench.overlay [HEAD_FILE]

A wide video (1280 x 720) with 200 frames of the longest real clip in its middle is tracked with ICT-FaceKit (HEAD_FILE, by
default the one beside the repository), or with the procedural head where there is no such file; then its overlay is written,
crops 512 wide.
Prints frames per second of CPU time and what the parts of a frame cost; a first run that compiles is left out.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from rich.console import Console

from bench.workspace import ROOT, make_workspace, real_clips
from headwater.overlay import overlay_to_file
from pipelines.decode import open_decoder
from pipelines.overlay import clay_of, draw_head, draw_pairs
from pipelines.probe import probe_video
from pipelines.subject import read_tables
from pipelines.tracked import read_tracked
from pipelines.video import write_video

ICT = ROOT.parent / "shared" / "assets" / "ict_facekit.npz"
FRAMES, SIZE = 200, 512


def wide_video(source: Path, target: Path) -> None:
    """The first frames of a video in the middle of a gray one of 1280 x 720."""
    facts = probe_video(source)
    frames = []
    for _, picture in open_decoder(source, facts, 2**30).frames(range(min(FRAMES, facts.frames_found))):
        wide = np.full((720, 1280, 3), 128, np.uint8)
        scale = 720 / picture.shape[0]
        small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)[:, :1280]
        left = (1280 - small.shape[1]) // 2
        wide[:, left : left + small.shape[1]] = small
        frames.append(wide)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_video(target, frames, facts.fps)


def cpu_seconds(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def main() -> None:
    head_file = Path(sys.argv[1]) if len(sys.argv) > 1 else ICT
    head = {"preprocess.head": "ict", "preprocess.head_file": str(head_file.resolve())} if head_file.is_file() else {}
    with tempfile.TemporaryDirectory() as scratch:
        workspace = make_workspace(Path(scratch) / "project", head)
        longest = max(real_clips(), key=lambda path: probe_video(path).frames_found)
        wide_video(longest, workspace.videos / "clip.mp4")
        run = workspace.repro("preprocess")
        if run.status != 0:
            sys.exit(run.output)
        os.chdir(workspace.folder)
        cv2.setNumThreads(1)
        torch.set_num_threads(1)
        data = read_tables()
        clip_id = data.segments["clip_id"][0].as_py()

        def write(crop_only: bool) -> None:
            overlay_to_file(clip_id, Path("out.mp4"), size=SIZE, crop_only=crop_only, console=Console(quiet=True))

        write(True)  # compiles
        (segment,) = read_tracked(data, [clip_id])
        count = len(segment)
        print(f"head {segment.head.name}, {len(segment.head.rig.template)} vertices, {count} frames, crops {SIZE} wide")
        for name, crop_only in (("beside the source, 1280 x 720", False), ("the stored crops alone", True)):
            print(f"{name}: {count / cpu_seconds(lambda alone=crop_only: write(alone)):.1f} frames/s of one core")

        scale, clay, picture = SIZE / segment.side, clay_of(segment.head), np.zeros((SIZE, SIZE, 3), np.uint8)
        vertices, model = segment.posed(0)
        K = segment.clip.K[0] * [[scale], [scale], [1]]
        parts: dict[str, Callable[[], object]] = {
            "pose": lambda: segment.posed(0),
            "mesh": lambda: draw_head(picture, clay, vertices, K, segment.clip.viewmat[0]),
            "landmarks": lambda: draw_pairs(picture, segment.detected[0] * scale, model * scale, SIZE / 230),
        }
        for name, part in parts.items():
            print(f"{name}: {1e3 * cpu_seconds(lambda call=part: [call() for _ in range(50)]) / 50:.1f} ms")


if __name__ == "__main__":
    main()
