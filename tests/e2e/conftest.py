"""The project that the tests of this folder share: made-up people, all stages run once."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from bench.workspace import Workspace, make_workspace

TINY = {
    "source": {"kind": "procedural", "path": "demo/people.yaml", "watch": "demo/people.yaml"},
    "preprocess.crop.side": 128,
    "preprocess.gates.min_frames": 10,
    "train_headgas.steps": 30,
    "train_headgas.num_gaussians": 400,
    "train_headgas.resolution": 64,
    "train_oneshot.steps": 10,
    "train_oneshot.max_vertices": 300,
    "train_nphm.steps": 30,
    "train_nphm.people": 6,
    "train_nphm.unseen": 1,
    "train_nphm.mixtures": 5,
    "track_nphm.subjects": ["ada"],
    "distill_forward.steps": 20,
    "distill_forward.people": 3,
    "train_npga.steps": 20,
    "train_npga.num_gaussians": 300,
    "train_npga.resolution": 64,
    "train_npga.max_judged": 4,
    "evaluate.max_frames": 4,
    "evaluate.max_cross_pairs": 1,
}


def shorten_recipe(path: Path, people: int, seconds: float) -> None:
    recipe = yaml.safe_load(path.read_text())
    recipe["people"] = [{**person, "seconds": seconds} for person in recipe["people"][:people]]
    path.write_text(yaml.safe_dump(recipe))


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = make_workspace(tmp_path_factory.mktemp("e2e") / "project", TINY)
    shorten_recipe(workspace.folder / "demo" / "people.yaml", people=2, seconds=1.6)
    run = workspace.repro()
    assert run.status == 0, run.output
    return workspace
