"""A folder of numbered pictures is a video: found, timed, decoded and catalogued like one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipelines.cache import Cache, Entry
from pipelines.catalog import ProbeVideo, video_items
from pipelines.decode import open_decoder
from pipelines.fanout import Item, ItemRejected
from pipelines.params import Preprocess
from pipelines.pictures import numbered_pictures
from pipelines.preprocess.observe import ObserveClip
from pipelines.probe import probe_video
from pipelines.sources import VideoClip
from pipelines.video_facts import ProbeError
from tests.hostile import face_frames


def paint(folder: Path, numbers: list[int], name: str = "{}.jpg", size: tuple[int, int] = (24, 16)) -> Path:
    """Pictures whose red is twice their number."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        image = np.zeros((size[1], size[0], 3), np.uint8)
        image[..., 2] = 2 * number
        cv2.imwrite(str(folder / name.format(number)), image)
    return folder


@pytest.mark.parametrize("name", ["{}.jpg", "{:06d}.PNG", "cam_2-frame{:04d}.jpeg"])
def test_pictures_come_in_the_order_of_their_numbers(tmp_path: Path, name: str) -> None:
    paint(tmp_path, [9, 10, 11, 100], name)
    (tmp_path / "9.lms").write_text("1 2")
    (tmp_path / "bc.jpg").write_bytes(b"no number")
    facts = probe_video(tmp_path)
    assert facts.times.tolist() == pytest.approx([0, 0.04, 0.08, 3.64]) and (facts.width, facts.height) == (24, 16)
    decoder = open_decoder(tmp_path, facts, 1)
    found = [(index, round(float(picture[..., 0].mean()) / 2), picture.shape) for index, picture in decoder.frames([0, 2, 3])]
    assert found == [(0, 9, (16, 24, 3)), (2, 11, (16, 24, 3)), (3, 100, (16, 24, 3))] and decoder.name == "pictures"


def test_a_picture_that_is_broken_or_of_another_size_is_left_out(tmp_path: Path) -> None:
    paint(tmp_path, [2, 3, 4, 5])
    paint(tmp_path, [3], size=(30, 16))
    (tmp_path / "1.jpg").write_bytes(b"broken")
    (tmp_path / "4.jpg").write_bytes(b"")
    facts = probe_video(tmp_path)
    assert facts.frames_found == 5
    assert [index for index, _ in open_decoder(tmp_path, facts, 1).frames(range(5))] == [1, 4]


@pytest.mark.parametrize(
    ("names", "reason", "says"),
    [
        ([], "not_a_file", "without numbered pictures"),
        (["a.jpg", "notes1.txt"], "not_a_file", "without numbered pictures"),
        (["1.jpg", "01.jpg"], "ambiguous_pictures", r"01.jpg and 1.jpg have the same number"),
        (["a1.jpg", "b2.jpg"], "ambiguous_pictures", r"a1.jpg and b2.jpg start differently"),
        (["1.jpg", "2.jpg"], "undecodable", "not one of its pictures"),
    ],
)
def test_a_folder_that_is_no_video_is_told(tmp_path: Path, names: list[str], reason: str, says: str) -> None:
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(ProbeError, match=says) as caught:
        probe_video(tmp_path)
    assert caught.value.reason == reason


def test_a_face_in_pictures_is_observed_as_in_a_video(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    for number, picture in enumerate(face_frames(8)):
        cv2.imwrite(str(tmp_path / "p" / f"{number}.png"), picture[..., ::-1])
    facts = {"clip_id": "c", "source": str(tmp_path / "p"), "frame_start": 2, "frame_end": 7, "crop": None}
    writer = Cache(str(tmp_path / "cache")).writer("a" * 64)
    summary = ObserveClip(Preprocess().as_key(), 2**20)(Item("c", "0", facts), None, writer)
    assert summary["frames"] == {"in_clip": 5, "decoded": 5, "with_face": 5} and summary["decoder"] == "pictures"


def test_numbers_of_any_length_are_read(tmp_path: Path) -> None:
    paint(tmp_path, [0], "20240101123000.jpg")
    assert numbered_pictures(tmp_path) == [(20240101123000, tmp_path / "20240101123000.jpg")]


def row(store: Cache, clip: VideoClip) -> dict[str, object]:
    (item,) = video_items([clip])
    writer = store.writer(item.fingerprint)
    writer.commit(ProbeVideo({})(item, None, writer), 0.0)
    entry = store.find(item.fingerprint)
    assert isinstance(entry, Entry)
    (found,) = entry.read_table("rows").to_pylist()
    return dict(found)


def test_the_catalog_notices_a_picture_that_changed(tmp_path: Path) -> None:
    folder, store = paint(tmp_path / "p", list(range(1, 11))), Cache(str(tmp_path / "cache"))
    clip = VideoClip("c", "s", "cam0", folder, 2, 8, split="test")
    first = row(store, clip)
    assert (first["frame_start"], first["frame_end"], first["split"], first["frames_found"]) == (2, 8, "test", 10)
    assert first["fps"] == pytest.approx(25.0) and first["source"] == str(folder)
    assert video_items([clip])[0].fingerprint == video_items([clip])[0].fingerprint
    before = video_items([clip])[0].fingerprint
    paint(folder, [4], size=(24, 16), name="{}.jpg")
    cv2.imwrite(str(folder / "4.jpg"), np.full((16, 24, 3), 255, np.uint8))
    assert video_items([clip])[0].fingerprint != before
    assert row(store, clip)["fingerprint"] != first["fingerprint"]
    assert row(store, replace(clip, split="train"))["split"] == "train"
    with pytest.raises(ItemRejected, match="without numbered pictures"):
        for path in folder.iterdir():
            path.unlink()
        row(store, clip)
