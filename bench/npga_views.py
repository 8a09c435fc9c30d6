"""Three made-up people before eight cameras, from videos to neural heads: what NPGA and its peers are compared on.

    python -m bench.npga_views FOLDER [PARAMETER=VALUE ...]
    cd FOLDER && headwater ablate-npga

Each performs three times for two seconds; camera cam3 and the third performance are held out. Keeps the project in FOLDER and
goes on there when called again: only what changed runs.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import yaml

from bench.real_clips import laptop_profile
from bench.workspace import Workspace, make_workspace

PEOPLE = {"ada": 2, "ben": 1, "cleo": 5}
STAGES = ("catalog", "preprocess", "train_nphm", "track_nphm", "distill_forward")


def main() -> None:
    folder = Path(sys.argv[1]).absolute()
    changes = {**laptop_profile(), "source": {"kind": "procedural", "path": "people.yaml", "watch": "people.yaml"}}
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
    changes |= {key: yaml.safe_load(value) for key, _, value in (word.partition("=") for word in sys.argv[2:])}
    if folder.exists():
        workspace = Workspace(folder)
        workspace.set_params(changes)
    else:
        workspace = make_workspace(folder, changes)
        roles = {"seconds": 2, "fps": 12, "size": 480, "cameras": 8, "sequences": 3}
        people = [{"name": name, "seed": seed, **roles} for name, seed in PEOPLE.items()]
        (folder / "people.yaml").write_text(yaml.safe_dump({"people": people}))
    for stage in STAGES:
        start = time.perf_counter()
        run = workspace.run("dvc", "repro", "--single-item", stage)
        if run.status:
            sys.exit(run.output)
        print(f"{stage}: {(time.perf_counter() - start) / 60:.1f} minutes", flush=True)


if __name__ == "__main__":
    main()
