"""ICT-FaceKit: the rig made of it does what its blend shapes do, and files that are not it are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from avatar_models.heads.ict import CM, NUM_VERTICES, PARTS, IctFileError, IctModel, read_ict
from avatar_models.heads.skinning import pose

FILE = Path(__file__).resolve().parents[4] / "shared" / "assets" / "ict_facekit.npz"
needs_ict = pytest.mark.skipif(not FILE.exists(), reason="ICT-FaceKit's npz is not beside the project, in shared/assets")


@pytest.fixture(scope="module")
def model() -> IctModel:
    return read_ict(FILE)


def posed(model: IctModel, **named: list[float]) -> np.ndarray:
    sizes = {
        "identity": len(model.rig.identity_basis),
        "expression": len(model.rig.expression_basis),
        "neck": 3,
        "jaw": 3,
        "eyes": 6,
    }
    values = [torch.tensor([named.get(name, [0.0] * size)], dtype=torch.float64) for name, size in sizes.items()]
    return pose(model.rig.to(dtype=torch.float64), *values)[0].numpy()


@needs_ict
def test_the_jaw_does_what_jaw_open_does(model: IctModel) -> None:
    with np.load(FILE) as stored:
        opened = stored["expression"][list(stored["expression_names"]).index("jawOpen")].astype(float) * CM
    rest = posed(model)
    errors = []
    for angle in np.linspace(0.40, 0.48, 17):  # the angle that is nearest is the one that it was made for
        moved = posed(model, jaw=[angle, 0, 0]) - rest
        errors.append(np.abs(moved - opened)[: PARTS["shells"][0]].max())
    assert min(errors) < 1.5e-3 and np.linalg.norm(opened, axis=1).max() > 0.04
    half = posed(model, jaw=[0.22, 0, 0])
    lower = np.linalg.norm(opened, axis=1) > 0.03
    assert (half[lower, 1] < rest[lower, 1]).all()


@needs_ict
def test_eyes_turn_about_their_middle_and_lids_follow(model: IctModel) -> None:
    rest, down = posed(model), posed(model, eyes=[0.4, 0, 0, 0.4, 0, 0])
    left = slice(*PARTS["eyes_left"])
    centre = model.rig.joints[3].double().numpy()
    radius = np.linalg.norm(rest[left] - centre, axis=1)
    assert np.allclose(np.linalg.norm(down[left] - centre, axis=1), radius, atol=1e-4)
    pupil = rest[left][:, 2].argmax()
    assert down[left][pupil, 1] < rest[left][pupil, 1] - 0.003
    assert (down - rest)[: PARTS["face"][1], 1].min() < -0.003  # the upper lid


@needs_ict
def test_left_is_left_and_lengths_are_metres(model: IctModel) -> None:
    assert model.rig.joints[3, 0] > 0.02 and model.rig.joints[4, 0] < -0.02
    assert 0.058 < float(model.rig.joints[3, 0] - model.rig.joints[4, 0]) < 0.068
    assert "eyeBlink_L" in model.expression_names and not any("eyeLook" in name for name in model.expression_names)
    blink = model.expression_names.index("eyeBlink_L")
    moved = model.rig.expression_basis[blink].norm(dim=1)
    assert (model.rig.template[moved > 0.004, 0] > 0).all()
    assert torch.allclose(model.rig.weights.sum(1), torch.ones(NUM_VERTICES), atol=1e-6) and model.rig.weights.min() >= 0
    assert int(model.faces.max()) < PARTS["shells"][0]


@needs_ict
def test_an_obj_folder_is_read_as_the_npz_is(model: IctModel, tmp_path: Path) -> None:
    with np.load(FILE) as stored:
        neutral, faces, names = stored["neutral"].astype(float), stored["faces"], list(stored["expression_names"])
        shapes = {"identity000": stored["identity"][0].astype(float)}
        shapes |= {
            str(name): stored["expression"][names.index(name)].astype(float)
            for name in names
            if "eyeLook" in name or name in ("jawOpen", "eyeBlink_L")
        }

    def write(name: str, vertices: np.ndarray) -> None:
        lines = [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in vertices]
        lines += ["f " + " ".join(f"{corner + 1}/1" for corner in face if corner >= 0) for face in faces]
        (tmp_path / f"{name}.obj").write_text("\n".join(lines))

    write("generic_neutral_mesh", neutral)
    for name, moved in shapes.items():
        write(name, neutral + moved)
    found = read_ict(tmp_path)
    assert torch.allclose(found.rig.template, model.rig.template, atol=1e-7) and torch.equal(found.faces, model.faces)
    assert torch.allclose(found.rig.identity_basis[0], model.rig.identity_basis[0], atol=1e-7)
    assert found.expression_names == ("eyeBlink_L",)
    (tmp_path / "identity001.obj").write_text("v 0 0 0\n")
    with pytest.raises(IctFileError, match=r"identity001\.obj: 1 vertices, the neutral mesh has 26719"):
        read_ict(tmp_path)


@pytest.mark.parametrize(
    ("content", "says"),
    [({"neutral": np.zeros((3, 3))}, "no faces, identity"), (None, "not an npz file")],
)
def test_another_file_is_named(tmp_path: Path, content: dict[str, np.ndarray] | None, says: str) -> None:
    path = tmp_path / "head.npz"
    if content is None:
        path.write_text("hello")
    else:
        np.savez(path, **content)  # type: ignore[arg-type]
    with pytest.raises(IctFileError, match=rf"head\.npz: {says}"):
        read_ict(path)


def test_a_folder_that_is_no_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(IctFileError, match="generic_neutral_mesh.obj: not found; the folder FaceXModel"):
        read_ict(tmp_path)
