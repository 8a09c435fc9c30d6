"""VHAP's folder: posed by its own equations it is where our cameras see it, and it comes back with the same numbers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from avatar_models.heads.interface import Head
from avatar_models.heads.procedural import procedural_head
from pipelines.formats.clip import Array, TrackedClip
from pipelines.formats.fields import FormatError
from pipelines.formats.vhap import read_vhap, write_vhap
from tests.pipelines.formats.made import FRAMES, SIDE, flame_clip, made_clip, pictures, seen, toy_flame

HEADS: dict[str, tuple[TrackedClip, Head]] = {
    "procedural": (made_clip(), procedural_head()),
    "flame": (flame_clip(), toy_flame()),
}


@pytest.fixture(params=HEADS)
def written(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, TrackedClip, Head]:
    clip, head = HEADS[request.param]
    write_vhap(tmp_path / "out", clip, pictures(), head)
    return tmp_path / "out", clip, head


def posed_as_in_flame(parameters: dict[str, Array], head: Head) -> Array:
    """FLAME's skinning with a global rotation, and VHAP's translation after it: (V, 3)."""
    expr = np.concatenate([parameters["expr"], *([parameters["eyelids"]] if "eyelids" in parameters else [])], 1)
    arguments = (parameters["shape"][None], expr, *(parameters[f"{name}_pose"] for name in ("neck", "jaw", "eyes")))
    v = head.vertices(*(torch.from_numpy(value.astype(np.float64)) for value in arguments))[0].numpy()
    rig = head.rig
    root = rig.joints[0] + torch.einsum(
        "i,ik->k", torch.from_numpy(parameters["shape"]).to(rig.joints), rig.joint_identity_basis[:, 0]
    )
    if rig.joint_expression_basis is not None:
        root = root + torch.einsum("e,ek->k", torch.from_numpy(expr[0]).to(rig.joints), rig.joint_expression_basis[:, 0])
    R = cv2.Rodrigues(parameters["rotation"][0].astype(np.float64))[0]
    return np.asarray((v - root.numpy()) @ R.T + root.numpy() + parameters["translation"][0])


def test_the_head_posed_as_flame_lies_where_our_camera_sees_it(written: tuple[Path, TrackedClip, Head]) -> None:
    folder, clip, head = written
    translations = []
    for row, frame in enumerate(json.loads((folder / "transforms.json").read_text())["frames"]):
        parameters = dict(np.load(folder / frame["flame_param_path"], allow_pickle=False))
        translations.append(parameters["translation"][0])
        world = posed_as_in_flame(parameters, head)
        c2w = np.array(frame["transform_matrix"])
        x, y, z = ((world - c2w[:3, 3]) @ c2w[:3, :3]).T  # OpenGL: y up, z backward
        pixels = np.stack([frame["cx"] + frame["fl_x"] * x / -z, frame["cy"] - frame["fl_y"] * y / -z], 1)
        arguments = (clip.identity, clip.expression[row], clip.neck[row], clip.jaw[row], clip.eyes[row])
        ours = head.vertices(*(torch.from_numpy(value[None]) for value in arguments)).numpy()
        assert np.abs(pixels - seen(clip, ours)[row]).max() < 2e-3
        assert 2 * np.arctan(frame["w"] / 2 / frame["fl_x"]) == pytest.approx(frame["camera_angle_x"])
    assert np.abs(np.mean(translations, 0)).max() < 1e-6  # recentred


def test_what_was_written_comes_back(written: tuple[Path, TrackedClip, Head]) -> None:
    folder, clip, head = written
    found = read_vhap(folder, head)
    assert np.abs(seen(found.clip) - seen(clip)).max() < 2e-3
    for name in ("expression", "neck", "jaw", "eyes", "identity"):
        assert getattr(found.clip, name) == pytest.approx(getattr(clip, name), abs=1e-6), name
    assert (found.clip.clip_id, found.clip.head, found.clip.width) == (clip.clip_id, clip.head, SIDE)
    assert found.clip.expression_names == clip.expression_names and found.clip.identity_names == clip.identity_names
    assert found.clip.frames.tolist() == clip.frames.tolist() and found.clip.held_out.tolist() == clip.held_out.tolist()
    assert found.timestep.tolist() == list(range(FRAMES)) and set(found.camera.tolist()) == {0}
    for path, mask in zip(found.images, found.masks, strict=True):
        image = cv2.imread(str(path))
        assert mask is not None and image.shape == (SIDE, SIDE, 3) and (image[cv2.imread(str(mask), 0) == 0] == 255).all()


def test_the_parts_are_the_splits_and_the_canonical_head_opens_its_mouth(written: tuple[Path, TrackedClip, Head]) -> None:
    folder, clip, head = written
    assert [len(read_vhap(folder, head, part).clip) for part in ("train", "val", "test")] == [8, 2, 2]
    rest = np.load(folder / "canonical_flame_param.npz")
    assert rest["jaw_pose"].tolist() == [[pytest.approx(0.3), 0, 0]] and not rest["expr"].any() and not rest["rotation"].any()
    posed = np.load(folder / "flame_param/00000.npz")
    shapes = {key: posed[key].shape for key in posed if key != "eyelids"}
    assert shapes == {
        "translation": (1, 3), "rotation": (1, 3), "neck_pose": (1, 3), "jaw_pose": (1, 3), "eyes_pose": (1, 6),
        "shape": clip.identity.shape, "static_offset": (1, len(head.rig.template), 3),
        "expr": (1, 100 if clip.head == "flame" else clip.expression.shape[1]),
    }  # fmt: skip
    assert all(posed[key].dtype == np.float32 for key in posed)


def test_short_flame_codes_are_filled_up_and_cut_again(tmp_path: Path) -> None:
    clip = flame_clip(identity=100, expression=52)
    whole = toy_flame()
    keep = [*range(50), 100, 101]
    rig = whole.rig
    assert rig.joint_expression_basis is not None
    short = type(rig)(
        rig.template, rig.identity_basis[:100], rig.expression_basis[keep], rig.joints, rig.joint_identity_basis[:100],
        rig.weights, rig.joint_expression_basis[keep], rig.pose_basis,
    )  # fmt: skip
    head = replace(whole, rig=short)
    write_vhap(tmp_path / "out", clip, pictures(), head)
    posed = np.load(tmp_path / "out/flame_param/00000.npz")
    assert posed["shape"].shape == (300,) and posed["expr"].shape == (1, 100) and posed["eyelids"].shape == (1, 2)
    found = read_vhap(tmp_path / "out", head).clip
    assert found.expression == pytest.approx(clip.expression, abs=1e-6) and found.identity == pytest.approx(
        clip.identity, abs=1e-6
    )


def test_a_folder_that_is_taken_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("mine")
    with pytest.raises(FileExistsError):
        write_vhap(tmp_path / "out", made_clip(), pictures(), procedural_head())
    with pytest.raises(FormatError, match="pictures for 10 tracked"):
        write_vhap(tmp_path / "new", made_clip(), [], procedural_head())
    assert [path.name for path in tmp_path.iterdir()] == ["out"] and (tmp_path / "out/mine.txt").exists()


def test_heads_that_turn_need_the_head(written: tuple[Path, TrackedClip, Head]) -> None:
    with pytest.raises(FormatError, match="whose place only the head model knows"):
        read_vhap(written[0], None)


def test_another_head_is_refused(written: tuple[Path, TrackedClip, Head]) -> None:
    folder, clip, _ = written
    other = next(head for name, (_, head) in HEADS.items() if name != clip.head)
    with pytest.raises(FormatError, match="coefficients, the head"):
        read_vhap(folder, other)


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("fl_x", "wide", "frame 2: 'fl_x' = 'wide' holds something that is no number"),
        ("fl_x", -3.0, "frame 2: 'fl_x' = -3, a number above 0"),
        ("transform_matrix", [[1, 0], [0, 1]], r"frame 2: 'transform_matrix' has the shape \(2, 2\), 4 x 4"),
        ("transform_matrix", np.diag([2.0, 1, 1, 1]).tolist(), "is not a rotation with a translation"),
        ("flame_param_path", "flame_param/77777.npz", "77777.npz: no such file"),
        ("flame_param_path", 7, "'flame_param_path' = 7, text was expected"),
        ("timestep_index", "two", "frame 2: 'timestep_index' = 'two', a whole number was expected"),
        ("fg_mask_path", [], r"frame 2: 'fg_mask_path' = \[\], text was expected"),
        ("cx", 10**400, "frame 2: 'cx' = 1000.* holds something that is no number"),
        ("w", 97, "its pictures differ in size"),
    ],
)
def test_a_damaged_entry_is_named(tmp_path: Path, key: str, value: object, says: str) -> None:
    write_vhap(tmp_path / "out", made_clip(), pictures(), procedural_head())
    path = tmp_path / "out/transforms.json"
    found = json.loads(path.read_text())
    found["frames"][2][key] = value
    path.write_text(json.dumps(found))
    with pytest.raises(FormatError, match=says) as caught:
        read_vhap(tmp_path / "out", procedural_head())
    assert str(tmp_path) in str(caught.value)


def test_what_is_no_such_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"has no transforms.json of any kind"):
        read_vhap(tmp_path, None)
    (tmp_path / "transforms_train.json").write_text('{"frame": []}')
    with pytest.raises(FormatError, match=r"has transforms_train.json"):
        read_vhap(tmp_path, None)
    with pytest.raises(FormatError, match=r"no 'frames'; did you mean 'frame'"):
        read_vhap(tmp_path, None, "train")
