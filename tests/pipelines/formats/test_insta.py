"""INSTA's folder: its camera sees its meshes where ours sees the head, and it comes back with the same numbers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from avatar_models.cameras import project
from avatar_models.heads.interface import Head
from avatar_models.heads.procedural import procedural_head
from pipelines.formats.clip import Array, TrackedClip, centred, head_only
from pipelines.formats.fields import FormatError
from pipelines.formats.insta import read_insta, read_rgba, write_insta
from pipelines.frames import StoredFrame
from tests.pipelines.formats.made import FRAMES, SIDE, cloud, flame_clip, made_clip, pictures, seen, toy_flame


def one_lens(clip: TrackedClip) -> tuple[TrackedClip, list[StoredFrame]]:
    found, shots = centred(clip, pictures())
    return found, list(shots)


HEADS: dict[str, tuple[TrackedClip, Head]] = {
    "procedural": (made_clip(), procedural_head()),
    "flame": (flame_clip(), toy_flame()),
}


@pytest.fixture(params=HEADS)
def written(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, TrackedClip, list[StoredFrame], Head]:
    clip, head = HEADS[request.param]
    clip, shots = one_lens(clip)
    write_insta(tmp_path / "out", clip, shots, head)
    return tmp_path / "out", clip, shots, head


def vertices_of(path: Path) -> Array:
    return np.array([line.split()[1:] for line in path.read_text().splitlines() if line.startswith("v ")], float)


def test_its_meshes_lie_where_our_camera_sees_the_head(written: tuple[Path, TrackedClip, list[StoredFrame], Head]) -> None:
    folder, clip, _, head = written
    found = json.loads((folder / "transforms.json").read_text())
    for row, frame in enumerate(found["frames"]):
        c2w = np.array(frame["transform_matrix"])
        x, y, z = ((vertices_of(folder / frame["mesh_path"]) - c2w[:3, 3]) @ c2w[:3, :3]).T  # OpenCV's axes
        pixels = np.stack([found["cx"] + found["fl_x"] * x / z, found["cy"] + found["fl_y"] * y / z], 1)
        codes = (clip.identity, clip.expression[row], clip.neck[row], clip.jaw[row], clip.eyes[row])
        ours = head.vertices(*(torch.from_numpy(code[None]) for code in codes)).numpy()
        assert np.abs(pixels - seen(clip, ours)[row]).max() < 1e-3
    assert found["x_fov"] == pytest.approx(np.degrees(2 * np.arctan(SIDE / 2 / found["fl_x"])))
    obj = (folder / "canonical.obj").read_text().splitlines()
    faces = np.array([line.split()[1:] for line in obj if line.startswith("f ")], int)
    assert (faces - 1 == head.faces.numpy()).all() and len(vertices_of(folder / "canonical.obj")) == len(head.rig.template)


def test_what_was_written_comes_back(written: tuple[Path, TrackedClip, list[StoredFrame], Head]) -> None:
    folder, clip, shots, _ = written
    found = read_insta(folder)
    assert np.abs(project(torch.from_numpy(cloud()), found.camera).numpy() - seen(clip)).max() < 1e-6
    for name in ("expression", "neck", "jaw", "eyes"):
        assert getattr(found, name) == pytest.approx(getattr(clip, name), abs=1e-8), name
    assert found.identity is not None and found.identity.tolist() == clip.identity.tolist()
    assert (found.meaning.head, found.meaning.expression_names) == (clip.head, clip.expression_names)
    assert found.held_out.tolist() == clip.held_out.tolist()
    assert found.frames.tolist() == clip.frames.tolist() and (found.width, found.height) == (SIDE, SIDE)
    for path, shot in zip(found.images, head_only(clip, shots), strict=True):
        stored = read_rgba(path)
        assert (stored.image == shot.image).all() and (stored.matte == shot.matte).all() and stored.matte.any()
    lines = (folder / "flame/exp/00000.txt").read_text().splitlines()
    assert len(lines) == (100 if clip.head == "flame" else clip.expression.shape[1]) and len(lines[0].split(".")[1]) == 8


def test_the_parts_are_the_splits(written: tuple[Path, TrackedClip, list[StoredFrame], Head]) -> None:
    folder, clip, _, _ = written
    assert [read_insta(folder, part).frames.tolist() for part in ("train", "test")] == [
        clip.frames[~clip.held_out].tolist(), clip.frames[clip.held_out].tolist(),
    ]  # fmt: skip
    assert len(read_insta(folder, "val").frames) == FRAMES  # the last twenty, of ten


def test_a_folder_by_its_own_maker_is_read(tmp_path: Path) -> None:
    """As INSTA's script leaves it: no entry of ours, no joints beside the expression, frames out of order."""
    clip, shots = one_lens(made_clip())
    write_insta(tmp_path / "bala", replace(clip, held_out=np.zeros(FRAMES, bool)), shots, procedural_head())
    path = tmp_path / "bala/transforms.json"
    found = json.loads(path.read_text())
    del found["headwater"]
    found["frames"].reverse()
    for frame in found["frames"]:
        del frame["source_frame"]
        frame["depth_path"] = "depth/00000.png"
    path.write_text(json.dumps(found))
    (tmp_path / "bala/flame/jaw/00003.txt").unlink()
    read = read_insta(tmp_path / "bala")
    assert read.jaw is None and read.identity is None and (read.meaning.clip_id, read.meaning.head) == ("bala", "flame")
    assert read.expression == pytest.approx(clip.expression[::-1], abs=1e-8) and read.images[0].name == "00009.png"
    assert np.abs(project(torch.from_numpy(cloud()), read.camera).numpy()[::-1] - seen(clip)).max() < 1e-6


def test_a_lens_that_changes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="K differs by 15 pixels between frames"):
        write_insta(tmp_path / "out", made_clip(), pictures(), procedural_head())
    assert not list(tmp_path.iterdir())


def test_what_is_damaged_is_named(tmp_path: Path) -> None:
    clip, shots = one_lens(made_clip())
    folder = tmp_path / "out"
    write_insta(folder, clip, shots, procedural_head())
    with pytest.raises(FormatError, match="has transforms.json, transforms_test.json"):
        (folder / "transforms_val.json").unlink()
        read_insta(folder, "val")
    (folder / "flame/exp/00004.txt").write_text("0.5\nhalf\n")
    with pytest.raises(FormatError, match=r"00004\.txt: not a number on each line"):
        read_insta(folder)
    (folder / "flame/exp/00004.txt").write_text("0.5\n")
    with pytest.raises(FormatError, match=r"00004\.txt: 'coefficients' has the shape \(1,\), 31 was expected"):
        read_insta(folder)
    (folder / "flame/exp/00004.txt").unlink()
    with pytest.raises(FormatError, match=r"00004\.txt: no such file, though"):
        read_insta(folder)
    cv2.imwrite(str(tmp_path / "gray.png"), np.zeros((4, 4), np.uint8))
    for name, says in (("gray.png", "8 bits of RGBA"), ("none.png", "no such file"), ("out/canonical.obj", "not a picture")):
        with pytest.raises(FormatError, match=says):
            read_rgba(tmp_path / name)
