"""The one-shot model on made-up people: twenty-four to train on, and six that it has never seen to judge it.

    python -m bench.oneshot_made_up FOLDER STEPS [PARAMETER=VALUE ...]

Keeps the project in FOLDER and goes on there when called again: only what changed runs. Prints the minutes of each stage and
each method's figures; film strips are in FOLDER/data/evaluation_oneshot.
"""

from __future__ import annotations

import sys
from pathlib import Path

import yaml

from bench.oneshot_real import run_oneshot_stages
from bench.real_clips import laptop_profile
from bench.workspace import Workspace, make_workspace

TRAINED, UNSEEN = 24, 6


def main() -> None:
    folder, steps = Path(sys.argv[1]).absolute(), int(sys.argv[2])
    names = [f"person{seed:02d}" for seed in range(1, TRAINED + UNSEEN + 1)]
    changes = {**laptop_profile(), "source": {"kind": "procedural", "path": "people.yaml", "watch": "people.yaml"}}
    changes |= {"train_oneshot.steps": steps, "train_oneshot.test_subjects.names": names[TRAINED:]}
    changes |= {key: yaml.safe_load(value) for key, _, value in (word.partition("=") for word in sys.argv[3:])}
    if folder.exists():
        workspace = Workspace(folder)
        workspace.set_params(changes)
    else:
        workspace = make_workspace(folder, changes)
        people = [{"name": name, "seed": seed, "seconds": 4, "fps": 15, "size": 320} for seed, name in enumerate(names, 1)]
        (folder / "people.yaml").write_text(yaml.safe_dump({"people": people}))
    run_oneshot_stages(workspace)


if __name__ == "__main__":
    main()
