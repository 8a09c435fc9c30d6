"""The one-shot model on the real clips beside the repository: three people kept out of training and judged.

    python -m bench.oneshot_real FOLDER STEPS [PARAMETER=VALUE ...]

Keeps the project in FOLDER and goes on there when called again: only what changed runs. The head is ICT-FaceKit's. Prints the
minutes of the training and each method's figures; film strips are in FOLDER/data/evaluation_oneshot.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import yaml

from bench.real_clips import laptop_profile
from bench.workspace import ROOT, Workspace, make_workspace, real_clips

UNSEEN = ["d10", "d3", "obama"]
HEAD = ROOT.parent / "shared" / "assets" / "ict_facekit.npz"


def main() -> None:
    folder, steps = Path(sys.argv[1]).absolute(), int(sys.argv[2])
    changes = {**laptop_profile(), "preprocess.head": "ict", "preprocess.head_file": str(HEAD)}
    changes |= {
        "train_oneshot.steps": steps,
        "train_oneshot.test_subjects.names": UNSEEN,
    }
    changes |= {key: yaml.safe_load(value) for key, _, value in (word.partition("=") for word in sys.argv[3:])}
    if folder.exists():
        workspace = Workspace(folder)
        workspace.set_params(changes)
    else:
        workspace = make_workspace(folder, changes)
        workspace.add_videos(real_clips())
    run_oneshot_stages(workspace)


def run_oneshot_stages(workspace: Workspace) -> None:
    """Runs the pipeline's one-shot part and prints its minutes and figures."""
    for stage in ("catalog", "preprocess", "train_oneshot", "evaluate_oneshot"):
        start = time.perf_counter()
        run = workspace.run("dvc", "repro", "--single-item", stage)
        if run.status:
            sys.exit(run.output)
        print(f"{stage}: {(time.perf_counter() - start) / 60:.1f} minutes", flush=True)
    judged = json.loads((workspace.folder / "metrics/evaluate_oneshot.json").read_text())
    print(json.dumps(judged, indent=1))


if __name__ == "__main__":
    main()
