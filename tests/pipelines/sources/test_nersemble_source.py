"""NeRSemble's layout becomes a clip for each camera and sequence; its calibration becomes cameras."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from avatar_models.cameras import project
from pipelines.cache import Cache, Entry
from pipelines.catalog import ProbeVideo, video_items
from pipelines.params import Source
from pipelines.sources import SourceError, list_clips
from pipelines.sources.nersemble import list_nersemble, read_calibration
from tests.hostile import encode

K = [[8200.0, 0.0, 1100.0], [0.0, 8200.0, 1604.0], [0.0, 0.0, 1.0]]


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")


def stage(folder: Path) -> Path:
    for sequence in ("EXP-1-head", "EMO-1-shout+laugh"):
        for serial in ("222200037", "222200042"):
            touch(folder / f"018/sequences/{sequence}/images/cam_{serial}.mp4")
    touch(folder / "104/sequences/FREE/images/cam_222200037.mp4")
    touch(folder / "018/sequences/BACKGROUND/image_222200037.jpg")
    touch(folder / "metadata_participants.csv")
    return folder


def calibration(folder: Path, **changes: object) -> Path:
    views = {}
    for serial, yaw in (("222200037", 0.0), ("222200042", -0.6)):
        view = np.eye(4)
        view[:3, :3] = np.diag([1.0, -1, -1]) @ cv2.Rodrigues(np.array([0, yaw, 0]))[0]
        view[:3, 3] = [0, 0, 1.0]
        views[serial] = view.tolist()
    path = folder / "018/calibration/camera_params.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"world_2_cam": views, "intrinsics": K, **changes}))
    return folder / "018"


def test_a_clip_is_a_camera_of_a_sequence(tmp_path: Path) -> None:
    listing = list_clips(Source(kind="nersemble", path=str(stage(tmp_path)), watch="x"))
    assert [(clip.clip_id, clip.subject_id, clip.camera_id) for clip in listing.clips] == [
        ("018-EMO-1-shout_laugh-222200037", "018", "222200037"),
        ("018-EMO-1-shout_laugh-222200042", "018", "222200042"),
        ("018-EXP-1-head-222200037", "018", "222200037"),
        ("018-EXP-1-head-222200042", "018", "222200042"),
        ("104-FREE-222200037", "104", "222200037"),
    ]
    assert listing.clips[0].path == tmp_path / "018/sequences/EMO-1-shout+laugh/images/cam_222200037.mp4"
    assert [clip.sequence for clip in listing.clips] == ["EMO-1-shout+laugh"] * 2 + ["EXP-1-head"] * 2 + ["FREE"]
    assert not listing.ignored and not listing.refused


def test_a_clip_has_its_camera_and_what_has_none_is_told(tmp_path: Path) -> None:
    calibration(stage(tmp_path))
    touch(tmp_path / "018/sequences/FREE/images/cam_222200099.mp4")
    listing = list_nersemble(tmp_path)
    cameras = {(clip.subject_id, clip.camera_id): clip.known_camera for clip in listing.clips}
    known = cameras["018", "222200042"]
    assert known is not None and (known.K, known.width, known.height) == (tuple(np.ravel(K)), 2200, 3208)
    assert known.viewmat[:3] == pytest.approx((np.cos(0.6), 0, np.sin(-0.6)))
    assert cameras["018", "222200099"] is None and cameras["104", "222200037"] is None
    of_camera, of_participant = listing.remarks
    assert "has no camera 222200099: clips of these are fitted by themselves" in of_camera
    assert "camera_params.json: no such file: the cameras of 104 are fitted each by itself" in of_participant


def test_what_is_no_clip_is_listed_with_the_reason(tmp_path: Path) -> None:
    stage(tmp_path)
    touch(tmp_path / "018/sequences/FREE/images/front.mp4")
    touch(tmp_path / "018/sequences/FREE/images/cam_222200037.txt")
    (tmp_path / "018/sequences/HAIR").mkdir()
    (tmp_path / "tools").mkdir()
    (tmp_path / "300").mkdir()
    ignored = {Path(path).name: reason for path, reason in list_nersemble(tmp_path).ignored}
    assert sorted(ignored) == ["300", "HAIR", "cam_222200037.txt", "front.mp4", "tools"]
    assert "without a folder sequences/" in ignored["300"] and "without a folder images/" in ignored["HAIR"]


def test_a_folder_without_clips_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such folder; it should hold NeRSemble's participants"):
        list_nersemble(tmp_path / "none")
    (tmp_path / "nersemble").mkdir()
    with pytest.raises(SourceError, match=r"images/cam_\{serial\}\.mp4; .*nersemble is not a participant by its name"):
        list_nersemble(tmp_path)


def probed(folder: Path, clip_id: str) -> tuple[dict[str, Any], list[str]]:
    """The catalog row and the remarks of one clip."""
    (item,) = video_items([clip for clip in list_nersemble(folder).clips if clip.clip_id == clip_id])
    writer = Cache(str(folder / "cache")).writer(item.fingerprint)
    writer.commit(ProbeVideo({})(item, None, writer), 0.0)
    entry = Cache(str(folder / "cache")).find(item.fingerprint)
    assert isinstance(entry, Entry)
    (row,) = entry.read_table("rows").to_pylist()
    return row, entry.summary["remarks"]


def test_a_clip_goes_into_the_catalog(tmp_path: Path) -> None:
    video = stage(tmp_path) / "104/sequences/FREE/images/cam_222200037.mp4"
    encode(video, [np.full((48, 32, 3), 20 * k, np.uint8) for k in range(6)], rate=73)
    row, _ = probed(tmp_path, "104-FREE-222200037")
    assert (row["clip_id"], row["camera_id"], row["frame_end"]) == ("104-FREE-222200037", "222200037", 6)
    assert row["fps"] == pytest.approx(73, rel=1e-2) and (row["width"], row["height"]) == (32, 48)
    assert (row["sequence"], row["K"], row["viewmat"]) == ("FREE", None, None)


def test_the_catalog_has_the_camera_for_the_videos_own_size(tmp_path: Path) -> None:
    calibration(stage(tmp_path), width=1100, height=1604)
    for serial, size in (("222200037", (802, 550)), ("222200042", (512, 512))):
        video = tmp_path / f"018/sequences/EXP-1-head/images/cam_{serial}.mp4"
        encode(video, [np.full((*size, 3), 20 * k, np.uint8) for k in range(3)])
    row, remarks = probed(tmp_path, "018-EXP-1-head-222200037")
    assert row["K"] == pytest.approx([4100, 0, 550, 0, 4100, 802, 0, 0, 1])
    assert row["viewmat"] == pytest.approx(read_calibration(tmp_path / "018").viewmats["222200037"].ravel())
    assert not remarks
    row, remarks = probed(tmp_path, "018-EXP-1-head-222200042")
    assert row["K"] is None and row["viewmat"] is None
    (told,) = remarks
    assert "fitted by itself: its calibration is meant for 1100 x 1604; 512 x 512 is not that picture resized" in told


def test_the_calibration_gives_each_camera(tmp_path: Path) -> None:
    found = read_calibration(calibration(tmp_path))
    assert sorted(found.viewmats) == ["222200037", "222200042"] and (found.width, found.height) == (2200, 3208)
    point = torch.tensor([[[0.1, 0.05, 0.02]]], dtype=torch.float64)
    full = project(point, found.camera("222200037"))[0, 0].tolist()
    assert full == pytest.approx([1100 + 8200 * 0.1 / 0.98, 1604 - 8200 * 0.05 / 0.98])
    quarter = project(point, found.camera("222200037", 550, 802))[0, 0].tolist()
    assert quarter == pytest.approx([value / 4 for value in full])
    assert project(point, found.camera("222200042"))[0, 0, 0].item() != pytest.approx(full[0], abs=100)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"intrinsics": [[1.0, 0.0], [0.0, 1.0]]}, r"'intrinsics' has the shape \(2, 2\), 3 x 3 was expected"),
        ({"intrinsics": np.eye(3)[::-1].tolist()}, "is not fx 0 cx, 0 fy cy, 0 0 1"),
        ({"world_2_cam": {}}, "'world_2_cam' holds no camera"),
        ({"world_2_cam": {"222200037": [[1.0, 0.0]]}}, r"world_2_cam: '222200037' has the shape \(1, 2\), 4 x 4"),
        ({"world_2_cam": {"222200037": (3 * np.eye(4)).tolist()}}, "is not a rotation with a translation"),
        ({"width": "wide"}, "'width' = 'wide', a number of pixels"),
    ],
)
def test_a_wrong_calibration_is_named(tmp_path: Path, changes: dict[str, object], says: str) -> None:
    with pytest.raises(SourceError, match=says) as caught:
        read_calibration(calibration(tmp_path, **changes))
    assert "camera_params.json" in str(caught.value)


def test_a_camera_or_a_size_that_is_not_there_is_named(tmp_path: Path) -> None:
    found = read_calibration(calibration(tmp_path))
    with pytest.raises(SourceError, match="no camera '1'; it has 222200037, 222200042"):
        found.camera("1")
    with pytest.raises(SourceError, match="2200 x 3208; 512 x 512 is not that picture resized"):
        found.camera("222200037", 512, 512)
    with pytest.raises(SourceError, match=r"camera_params\.json: no such file"):
        read_calibration(tmp_path / "019")
