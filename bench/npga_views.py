"""Three made-up people before eight cameras, from videos to neural heads: what NPGA and its peers are compared on.

    python -m bench.npga_views FOLDER [PARAMETER=VALUE ...]
    cd FOLDER && headwater ablate-npga

Each performs three times for two seconds; camera cam3 and the third performance are held out. Keeps the project in FOLDER and
goes on there when called again: only what changed runs.
"""

from __future__ import annotations

import sys
from pathlib import Path

from bench.real_clips import laptop_profile
from bench.workspace import MADE_UP, kept_workspace, named_changes

PEOPLE = {"ada": 2, "ben": 1, "cleo": 5}


def main() -> None:
    changes = {**laptop_profile(), **MADE_UP}
    changes |= {
        "catalog": {"test_fraction": 0.0, "held_out_cameras": ["cam3"], "held_out_sequences": ["s2"]},
        "preprocess.fit_photometric": False,
        "preprocess.gates.min_frames": 10,
        "track_nphm.clouds": "views",
        "train_nphm.steps": 3000,
        "distill_forward.steps": 1500,
        "train_npga.steps": 3000,
        "train_headgas.steps": 6000,
    }
    changes |= named_changes(sys.argv[2:])
    roles = {"seconds": 2, "fps": 12, "size": 480, "cameras": 8, "sequences": 3}
    people = [{"name": name, "seed": seed, **roles} for name, seed in PEOPLE.items()]
    workspace = kept_workspace(Path(sys.argv[1]).absolute(), changes, lambda made: made.cast(people))
    workspace.run_stages("catalog", "preprocess", "train_nphm", "track_nphm", "distill_forward")


if __name__ == "__main__":
    main()
