"""NeRFBlendShape's folders become two clips each, train and test; their cameras are read as OpenCV's."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from avatar_models.cameras import project
from pipelines.decode import open_decoder
from pipelines.params import Source
from pipelines.probe import probe_video
from pipelines.sources import SourceError, list_clips
from pipelines.sources.nerfblendshape import list_nerfblendshape, read_nerfblendshape

FIRST = 7  # img_id of the first frame


def subject(folder: Path, count: int = 510, pictures: str = "ori_imgs") -> Path:
    """A folder of `count` frames, listed backwards; picture n has the gray level n modulo 250."""
    (folder / pictures).mkdir(parents=True)
    frames = []
    for number in range(FIRST, FIRST + count):
        cv2.imwrite(str(folder / pictures / f"{number}.jpg"), np.full((16, 16, 3), number % 250, np.uint8))
        (folder / pictures / f"{number}.lms").write_text("1 2\n")
        c2w = np.eye(4)
        c2w[:3, :3] = cv2.Rodrigues(np.array([0.0, 0.001 * number, 0]))[0]
        c2w[:3, 3] = c2w[:3, :3] @ [0, 0, 0.5]
        frames.append({"img_id": number, "transform_matrix": c2w.tolist(), "exp_ori": [number / 1000] * 46})
    own = {"h": 512, "w": 512, "fx": 1200.0, "fy": 1210.0, "cx": 250.0, "cy": 260.0, "frames": frames[::-1]}
    (folder / "transforms.json").write_text(json.dumps(own))
    return folder


def changed(folder: Path, **changes: object) -> Path:
    path = folder / "transforms.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return folder


def test_the_last_500_frames_are_a_test_clip(tmp_path: Path) -> None:
    listing = list_clips(Source(kind="nerfblendshape", path=str(subject(tmp_path / "id1")), watch="x"))
    train, test = listing.clips
    assert (train.clip_id, train.subject_id, train.frame_start, train.frame_end, train.split) == (
        "id1-train",
        "id1",
        0,
        10,
        "train",
    )
    assert (test.clip_id, test.subject_id, test.frame_start, test.frame_end, test.split) == ("id1-test", "id1", 10, 510, "test")
    facts = probe_video(test.path)
    found = {index: int(picture.mean()) for index, picture in open_decoder(test.path, facts, 1).frames([9, 10, 509])}
    assert found == {9: 16, 10: 17, 509: 16} and facts.frames_found == 510


def test_several_subjects_and_those_that_cannot_be_read(tmp_path: Path) -> None:
    subject(tmp_path / "id1", 501)
    subject(tmp_path / "id2", 501, pictures="head_imgs")
    subject(tmp_path / "short", 20)
    (tmp_path / "empty").mkdir()
    listing = list_nerfblendshape(tmp_path)
    assert [clip.clip_id for clip in listing.clips] == ["id1-train", "id1-test", "id2-train", "id2-test"]
    assert listing.clips[2].path.name == "head_imgs"
    ((name, reason),) = listing.refused
    assert Path(name).name == "short" and "has 20 frames; the last 500 are for testing" in reason


def test_the_camera_is_opencvs(tmp_path: Path) -> None:
    found = read_nerfblendshape(subject(tmp_path / "id1", 12))
    assert found.ids.tolist() == list(range(FIRST, FIRST + 12)) and found.test_start == -488
    assert [path.name for path in found.images] == [f"{number}.jpg" for number in range(FIRST, FIRST + 12)]
    assert found.expression[:, 45] == pytest.approx(np.arange(FIRST, FIRST + 12) / 1000) and found.expression.shape == (12, 46)
    points = np.array([[0.03, 0.02, 0.01], [0.0, 0.0, 0.0]])
    pixels = project(torch.from_numpy(points)[None], found.camera).numpy()
    for row, number in enumerate(found.ids):  # NeRF's own: rays through x / fx, -y / fy, -1
        c2w = np.eye(4)
        c2w[:3, :3] = cv2.Rodrigues(np.array([0.0, 0.001 * number, 0]))[0]
        x, y, z = ((points - c2w[:3, :3] @ [0, 0, 0.5]) @ c2w[:3, :3]).T
        assert pixels[row] == pytest.approx(np.stack([250 + 1200 * x / -z, 260 - 1210 * y / -z], 1))


def test_a_one_before_the_coefficients_is_taken_off(tmp_path: Path) -> None:
    folder = subject(tmp_path / "id1", 3)
    frames = json.loads((folder / "transforms.json").read_text())["frames"]
    for frame in frames:
        frame["exp_ori"].insert(0, 1.0)
    assert read_nerfblendshape(changed(folder, frames=frames)).expression.shape == (3, 46)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"exp_ori": [0.0] * 30}, "img_id 8: 'exp_ori' has 30 coefficients, 46 were expected"),
        ({"img_id": 7}, "img_id 7 comes twice"),
        ({"img_id": 99}, "no picture 99, which .* names"),
        ({"img_id": "eight"}, "'img_id' = 'eight', a whole number"),
        ({"transform_matrix": np.ones((4, 4)).tolist()}, "img_id 8: 'transform_matrix' = .* is not a rotation"),
    ],
)
def test_a_wrong_frame_is_named(tmp_path: Path, change: dict[str, object], says: str) -> None:
    folder = subject(tmp_path / "id1", 3)
    frames = json.loads((folder / "transforms.json").read_text())["frames"]
    frames[1].update(change)
    with pytest.raises(SourceError, match=says) as caught:
        read_nerfblendshape(changed(folder, frames=frames))
    assert "transforms.json" in str(caught.value)


def test_what_is_no_such_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no such folder; it should hold transforms\.json"):
        list_nerfblendshape(tmp_path / "none")
    with pytest.raises(SourceError, match=r"no transforms\.json in it, nor in its folders"):
        list_nerfblendshape(tmp_path)
    with pytest.raises(SourceError, match="'fx' = 'far' holds something that is no number"):
        read_nerfblendshape(changed(subject(tmp_path / "id1", 3), fx="far"))
    (tmp_path / "id3").mkdir()
    (tmp_path / "id3/transforms.json").write_text((tmp_path / "id1/transforms.json").read_text().replace('"far"', "1.0"))
    with pytest.raises(SourceError, match="no folder ori_imgs nor head_imgs in it"):
        read_nerfblendshape(tmp_path / "id3")
    (tmp_path / "id3/ori_imgs").mkdir()
    with pytest.raises(SourceError, match="without numbered pictures"):
        read_nerfblendshape(tmp_path / "id3")
