"""How many pairs of frames the one-shot loader reads a second, by threads: what training on GPUs may take.

    python -m bench.oneshot_loader [SIDE]

Cuts 60 frames of two real clips, preprocesses them to crops of SIDE pixels (default: 512, the published size) and reads pairs
at random from the shards. Eight steps a second of 8 pairs each take 64 pairs a second.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

import torch

from bench.workspace import cut_clip, make_workspace, real_clips
from pipelines.fleet.loader import read_ahead
from pipelines.oneshot.pairs import Pairs, frames_of
from pipelines.oneshot.stream import pairs_of
from pipelines.subject import read_tables

BATCH, BATCHES, CLIPS, FRAMES = 8, 40, 2, 60


def main() -> None:
    side = int(sys.argv[1]) if len(sys.argv) > 1 else 512
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        workspace = make_workspace(Path(scratch) / "project", {"preprocess.crop.side": side})
        for source in real_clips()[:CLIPS]:
            cut_clip(source, workspace.folder / "data/raw" / source.name, FRAMES)
        for stage in ("catalog", "preprocess"):
            run = workspace.run("dvc", "repro", "--single-item", stage)
            if run.status:
                sys.exit(run.output)
        os.chdir(workspace.folder)
        data = read_tables()
        frames = frames_of(data, sorted(set(data.segments["subject_id"].to_pylist())))
        pairs = Pairs(frames, data.frames, side)
        print(f"{len(frames)} frames of {len(frames.clip_ids)} clips, {side} pixels, batches of {BATCH} pairs")
        for threads in (1, 2):
            wanted = pairs_of(range(BATCHES), BATCH, frames, 0)
            start, cpu = time.perf_counter(), time.process_time()
            count = sum(len(batch) for batch in read_ahead(pairs.batch, wanted, threads))
            wall, cpu = time.perf_counter() - start, time.process_time() - cpu
            print(f"{threads} threads: {count / wall:.0f} pairs/s, {1e3 * cpu / count:.1f} ms of CPU a pair")
        os.chdir("/")


if __name__ == "__main__":
    main()
