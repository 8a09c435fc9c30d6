"""What the photometric refinement is worth to avatars: held-out PSNR of real clips with and without it.

    python -m bench.photometric_gain HEAD HEAD_FILE CLIP...

Each clip is tracked twice and an avatar is trained on each, 1,000 steps at 128 pixels; the same frames are held out.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from bench.real_clips import laptop_profile
from bench.workspace import make_workspace, real_clips

SHORT = {"train_headgas.steps": 1000, "train_headgas.resolution": 128, "train_headgas.num_gaussians": 2500}


def main() -> None:
    head, head_file, *names = sys.argv[1:]
    clips = [clip for clip in real_clips() if clip.stem in names]
    with tempfile.TemporaryDirectory() as scratch:
        named = {"preprocess.head": head, "preprocess.head_file": str(Path(head_file).resolve())}
        workspace = make_workspace(Path(scratch) / "project", {**laptop_profile(), **SHORT, **named})
        workspace.add_videos(clips)
        for photometric in (False, True):
            workspace.set_params({"preprocess.fit_photometric": photometric})
            run = workspace.repro("evaluate")
            if run.status:
                sys.exit(run.output[-2000:])
            found = json.loads((workspace.folder / "data/evaluation/subjects.json").read_text())
            print(
                "with pictures" if photometric else "landmarks", {name: row["psnr"] for name, row in found.items()}, flush=True
            )


if __name__ == "__main__":
    main()
