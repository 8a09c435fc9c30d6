"""Folders and VFHQ's layout become clips; what is left out is listed with the reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipelines.catalog import clip_range, clip_remarks
from pipelines.params import Source
from pipelines.sources import SourceError, list_clips, safe_name
from pipelines.sources.folder import list_folder
from pipelines.sources.vfhq import list_vfhq
from pipelines.video_facts import VideoFacts


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def test_a_subject_is_a_file_or_a_sub_folder(tmp_path: Path) -> None:
    touch(tmp_path, "ann.mp4", "bob/one.mov", "bob/two.MKV", "notes.txt")
    listing = list_folder(tmp_path)
    assert {clip.clip_id: clip.subject_id for clip in listing.clips} == {"ann": "ann", "bob-one": "bob", "bob-two": "bob"}
    assert [(Path(path).name, reason) for path, reason in listing.ignored] == [("notes.txt", "not a video by its ending .txt")]


def test_folders_that_are_left_out_are_listed(tmp_path: Path) -> None:
    touch(tmp_path, "ann.mp4", ".cache/a.mp4")
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "around").symlink_to(tmp_path)
    listing = list_folder(tmp_path)
    assert [clip.clip_id for clip in listing.clips] == ["ann"]
    assert {Path(path).name: reason for path, reason in listing.ignored} == {
        ".cache": "a hidden folder",
        "folder.mp4": "an empty folder, not a video",
        "around": "a link to a folder is not followed",
    }


def test_names_that_collide_or_escape_stay_apart_and_inside(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "a.mkv", "b c.mp4", "b_c.mp4", "..%2Fx.mp4")
    ids = [clip.clip_id for clip in list_folder(tmp_path).clips]
    assert len(set(ids)) == 5
    assert all(name == safe_name(name) and not name.startswith(".") for name in ids)


def test_an_empty_or_missing_folder_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such folder"):
        list_clips(Source(kind="folder", path=str(tmp_path / "none"), watch="x"))
    with pytest.raises(SourceError, match="holds no video"):
        list_clips(Source(kind="folder", path=str(tmp_path), watch="x"))


def vfhq(
    folder: Path, name: str = "Clip+ab_C-d+P1+C2+F10-60", text: str = "H 540\nW 960\nFPS 25.0\nCROP 10 20 110 120\nX 1\n"
) -> Path:
    touch(folder, "videos/ab_C-d.mp4")
    (folder / "meta_info").mkdir(exist_ok=True)
    (folder / "meta_info" / f"{name}.txt").write_text(text)
    return folder


def test_a_vfhq_clip_is_read_as_the_data_set_means_it(tmp_path: Path) -> None:
    (clip,) = list_vfhq(vfhq(tmp_path)).clips
    assert (clip.frame_start, clip.frame_end, clip.fps_claimed) == (11, 60, 25.0)
    assert (clip.crop, clip.crop_size, clip.subject_id) == ((10, 20, 110, 120), (960, 540), "ab_C-d-P1")
    assert clip.path.name == "ab_C-d.mp4"


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("Clip+x+P0+C0+F9-5", "H 1\nW 1\nFPS 25\nCROP 0 0 1 1", "frames 10 to 5"),
        ("Clip+x+P0+C0+F1-5", "H 1\nW 1\nCROP 0 0 1 1", "has no line FPS"),
        ("Clip+x+P0+C0+F1-5", "H 1\nW one\nFPS 25\nCROP 0 0 1 1", "no number"),
        ("holiday", "", "its name is not"),
    ],
)
def test_a_bad_meta_file_is_left_out_with_the_reason(tmp_path: Path, name: str, text: str, reason: str) -> None:
    listing = list_vfhq(vfhq(vfhq(tmp_path), name, text))
    assert len(listing.clips) == 1
    assert reason in listing.refused[0][1]


def facts(fps: float, count: int) -> VideoFacts:
    return VideoFacts(np.arange(count) / fps, count, fps, 640, 360, 0, "h264", False)


def test_a_video_at_another_rate_keeps_its_clip() -> None:
    clip = {"clip_id": "c", "path": "v.mp4", "frame_start": 50, "frame_end": 100, "fps_claimed": 25.0}
    assert clip_range(clip, facts(25.0, 500)) == (50, 100)
    assert clip_range(clip, facts(50.0, 1000)) == (99, 199)  # the same two seconds
    assert clip_range({**clip, "frame_end": None, "frame_start": 0}, facts(30.0, 77)) == (0, 77)


def test_what_had_to_be_mended_is_told() -> None:
    clip = {"clip_id": "c", "path": "v.mp4", "frame_start": 50, "frame_end": 100, "fps_claimed": 25.0, "known_camera": None}
    assert clip_remarks(clip, facts(25.0, 500)) == []
    assert "counts at 25 frames/s, the video runs at 50.000" in clip_remarks(clip, facts(50.0, 1000))[0]
    assert "ends at frame 99, the video at 79" in clip_remarks(clip, facts(25.0, 80))[0]


def test_a_small_difference_of_rates_counts_once_it_is_half_a_frame() -> None:
    clip = {"clip_id": "c", "path": "v.mp4", "frame_start": 100, "frame_end": 200, "fps_claimed": 30.0}
    assert clip_range(clip, facts(30000 / 1001, 40_000)) == (100, 200)
    late = {**clip, "frame_start": 30_000, "frame_end": 30_100}  # a thousand seconds in: thirty frames off
    assert clip_range(late, facts(30000 / 1001, 40_000)) == (29_970, 30_070)


def test_real_vfhq_files_are_listed(shared: Path) -> None:
    listing = list_vfhq(shared / "vfhq")
    assert [clip.clip_id for clip in listing.clips] and not listing.ignored
    assert {clip.crop_size for clip in listing.clips} == {(1920, 1080), (960, 540)}
