"""The one-shot model on made-up people: twenty-four to train on, and six that it has never seen to judge it.

    python -m bench.oneshot_made_up FOLDER STEPS [PARAMETER=VALUE ...]

Keeps the project in FOLDER and goes on there when called again: only what changed runs. Prints the minutes of each stage and
each method's figures; film strips are in FOLDER/data/evaluation_oneshot.
"""

from __future__ import annotations

import sys
from pathlib import Path

from bench.oneshot_real import run_oneshot_stages
from bench.real_clips import laptop_profile
from bench.workspace import MADE_UP, kept_workspace, named_changes

TRAINED, UNSEEN = 24, 6


def main() -> None:
    names = [f"person{seed:02d}" for seed in range(1, TRAINED + UNSEEN + 1)]
    changes = {**laptop_profile(), **MADE_UP}
    changes |= {"train_oneshot.steps": int(sys.argv[2]), "train_oneshot.test_subjects.names": names[TRAINED:]}
    changes |= named_changes(sys.argv[3:])
    people = [{"name": name, "seed": seed, "seconds": 4, "fps": 15, "size": 320} for seed, name in enumerate(names, 1)]
    run_oneshot_stages(kept_workspace(Path(sys.argv[1]).absolute(), changes, lambda made: made.cast(people)))


if __name__ == "__main__":
    main()
