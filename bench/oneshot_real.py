"""The one-shot model on the real clips beside the repository: three people kept out of training and judged.

    python -m bench.oneshot_real FOLDER STEPS [PARAMETER=VALUE ...]

Keeps the project in FOLDER and goes on there when called again: only what changed runs. The head is ICT-FaceKit's. Prints the
minutes of the training and each method's figures; film strips are in FOLDER/data/evaluation_oneshot.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from bench.real_clips import laptop_profile
from bench.workspace import ROOT, Workspace, kept_workspace, named_changes, real_clips

UNSEEN = ["d10", "d3", "obama"]
HEAD = ROOT.parent / "shared" / "assets" / "ict_facekit.npz"


def main() -> None:
    changes = {**laptop_profile(), "preprocess.head": "ict", "preprocess.head_file": str(HEAD)}
    changes |= {
        "train_oneshot.steps": int(sys.argv[2]),
        "train_oneshot.test_subjects.names": UNSEEN,
    }
    changes |= named_changes(sys.argv[3:])
    workspace = kept_workspace(Path(sys.argv[1]).absolute(), changes, lambda made: made.add_videos(real_clips()))
    run_oneshot_stages(workspace)


def run_oneshot_stages(workspace: Workspace) -> None:
    """Runs the pipeline's one-shot part and prints its minutes and figures."""
    workspace.run_stages("catalog", "preprocess", "train_oneshot", "evaluate_oneshot")
    judged = json.loads((workspace.folder / "metrics/evaluate_oneshot.json").read_text())
    print(json.dumps(judged, indent=1))


if __name__ == "__main__":
    main()
