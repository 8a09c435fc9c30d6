"""NPHM's registrations as scans, on made-up people written in its layout."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from avatar_models.heads.nphm.model import UNITS
from avatar_models.heads.procedural import procedural_head
from pipelines.heads import HeadError
from pipelines.params import TrainNphm
from pipelines.prior.meshes import MeshScans, read_people, topology_of
from pipelines.prior.scans import draw
from pipelines.prior.setup import Recipe

PEOPLE, EXPRESSIONS = 4, 3
OPTIONS = TrainNphm(scans="nphm", people=2, unseen=1, steps=2, batch=2, points=20, around=5, probes=0)


def write_mesh(path: Path, vertices: np.ndarray, faces: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    axes = "".join(f"property float {axis}\n" for axis in "xyz")
    header = (
        f"ply\nformat binary_little_endian 1.0\nelement vertex {len(vertices)}\n{axes}"
        f"element face {len(faces)}\nproperty list uchar int vertex_indices\nend_header\n"
    )
    rows = np.zeros(len(faces), [("n", "u1"), ("v", "<i4", (3,))])
    rows["n"], rows["v"] = 3, faces
    path.write_bytes(header.encode() + vertices.astype("<f4").tobytes() + rows.tobytes())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Subjects 17 to 20; 18's neutral expression is its second, and 20 has none."""
    root, head = tmp_path_factory.mktemp("nphm"), procedural_head()
    g = torch.Generator().manual_seed(0)
    for subject in range(17, 17 + PEOPLE):
        identity = torch.randn(1, head.num_identity, generator=g)
        for expression in range(EXPRESSIONS):
            z = torch.zeros(1, head.num_expression)
            z[0, expression] = float(expression > 0)
            still = torch.zeros(1, 3)
            vertices = head.vertices(identity, z, still, still, torch.zeros(1, 6))[0].numpy()
            write_mesh(root / f"{subject:03d}/{expression:03d}/registration.ply", UNITS * vertices, head.faces.numpy())
    (root / "neutrals_closed.json").write_text(json.dumps({"17": 0, "18": 1, "20": -1}))
    (root / "notes").mkdir()
    return root


def test_subjects_have_their_neutral_expression_first(folder: Path) -> None:
    people = read_people(folder)
    assert [person.name for person in people] == ["017", "018", "019"]
    assert [file.parent.name for file in people[1].files] == ["001", "000", "002"]


def test_points_lie_on_the_meshes_in_metres(folder: Path) -> None:
    people = read_people(folder)
    scans = MeshScans(topology_of(people), people, torch.tensor([5, 80, 200]))
    assert (len(scans), scans.num_codes, list(scans.codes_of(1)), scans.kept_for_judging(0)) == (3, 9, [3, 4, 5], 2)
    scan = draw(scans, 1, 2, 50, 7, np.random.default_rng(0))
    posed, rest = scans.vertices(1, 2), scans.vertices(1, 0)
    assert scan.surface.shape == (1, 50, 3) and 0.05 < float(posed.norm(dim=1).max()) < 0.5
    moved = (scan.surface - scan.rest).norm(dim=2).max()
    assert 0 < float(moved) <= float((posed - rest).norm(dim=1).max()) + 1e-6
    torch.testing.assert_close(scan.anchors[0], rest[torch.tensor([5, 80, 200])])
    assert not scan.neutral.any() and bool(draw(scans, 1, 0, 5, 5, np.random.default_rng(0)).neutral.all())


def test_a_prior_is_prepared_of_the_first_people_and_judged_by_the_last(folder: Path) -> None:
    run = Recipe(OPTIONS.as_key(), str(folder)).prepare("cpu")
    assert (len(run.scans), run.scans.num_codes, len(run.unseen)) == (2, 6, 1)
    batch = run.read(range(6))
    assert bool(((batch.expressions // EXPRESSIONS) == batch.people).all())  # a code is one person's


def test_folders_of_no_use_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(HeadError, match="holds no SUBJECT/EXPRESSION/registration.ply"):
        read_people(tmp_path)
    with pytest.raises(HeadError, match="holds 3 people with a neutral registration; 3 are wanted for judging"):
        Recipe(OPTIONS.model_copy(update={"unseen": 3}).as_key(), str(folder)).prepare("cpu")
    (tmp_path / "neutrals_closed.json").write_text("[]")
    with pytest.raises(HeadError, match="not a table of expressions by subject"):
        read_people(tmp_path)
    (tmp_path / "neutrals_closed.json").unlink()
    head = procedural_head()
    write_mesh(tmp_path / "001/000/registration.ply", np.zeros((9, 3)), head.faces.numpy()[:1])
    with pytest.raises(HeadError, match="name vertices that it does not have"):
        topology_of(read_people(tmp_path))
