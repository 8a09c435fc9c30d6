"""The whole pipeline on every real clip beside the repository, with the laptop profile.

    python -m bench.real_clips [FOLDER]

Keeps the project in FOLDER (default: a temporary one) and prints the segments table and the avatars' figures.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from bench.incremental import show
from bench.workspace import ROOT, make_workspace, real_clips
from pipelines import tables
from pipelines.dotted import flatten
from pipelines.yaml_files import read_yaml


def laptop_profile() -> dict[str, object]:
    """The laptop profile as dotted keys."""
    return flatten(read_yaml(ROOT / "profiles" / "laptop.yaml"))


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(scratch) / "project"
        workspace = make_workspace(folder, laptop_profile())
        workspace.add_videos(real_clips())
        show("real clips", workspace.repro())

        segments = tables.read_table(folder / "data/tracks/segments.parquet", tables.SEGMENTS).to_pylist()
        evaluated = json.loads((folder / "metrics/evaluate.json").read_text())
        print(f"{'clip':14} frames  good  reproj  jitter  cover  verdict")
        for row in segments:
            verdict = "passed" if row["passed"] else row["reason"]
            print(
                f"{row['clip_id']:14} {row['num_frames']:6} {row['num_good']:5}  {row['reprojection']:.4f}  {row['jitter']:.4f}"
                f"  {row['coverage']:.2f}   {verdict}"
            )
        print(json.dumps(evaluated, indent=1))


if __name__ == "__main__":
    main()
