"""INSTA's folders become clips; what is amiss in one is told with its file and the way out."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipelines.decode import open_decoder
from pipelines.params import Source
from pipelines.probe import probe_video
from pipelines.sources import SourceError, VideoClip, list_clips, safe_name
from pipelines.sources.insta import list_insta


def subject(folder: Path, count: int = 12, test: int = 4, ending: str = ".png") -> Path:
    """A folder of `count` frames of which the last `test` are held out; picture n has the gray level 10 n."""
    (folder / "images").mkdir(parents=True)
    for number in range(count):
        picture = np.full((16, 16, 4), 10 * number, np.uint8)
        cv2.imwrite(str(folder / f"images/{number:05d}.png"), picture)
    frames = [{"file_path": f"images/{number:05d}{ending}"} for number in range(count)]
    parts = {"": frames[::-1], "_train": frames[: count - test], "_test": frames[count - test :], "_val": frames[-2:]}
    for name, part in parts.items():
        write(folder, name, part)
    return folder


def write(folder: Path, part: str, frames: object) -> None:
    (folder / f"transforms{part}.json").write_text(json.dumps({"w": 16, "h": 16, "frames": frames}))


def spans(clips: list[VideoClip]) -> list[tuple[str, str, int, int | None, str]]:
    return [(clip.clip_id, clip.subject_id, clip.frame_start, clip.frame_end, clip.split) for clip in clips]


def test_what_is_held_out_is_a_test_clip(tmp_path: Path) -> None:
    listing = list_clips(Source(kind="insta", path=str(subject(tmp_path / "bala")), watch="x"))
    assert spans(listing.clips) == [("bala-train", "bala", 0, 8, "train"), ("bala-test", "bala", 8, 12, "test")]
    path = listing.clips[0].path
    facts = probe_video(path)
    assert facts.fps == pytest.approx(25.0) and facts.frames_found == 12
    assert {index: int(picture.mean()) for index, picture in open_decoder(path, facts, 1).frames([0, 8, 11])} == {
        0: 0,
        8: 80,
        11: 110,
    }


def test_without_a_test_part_a_subject_is_one_clip(tmp_path: Path) -> None:
    (subject(tmp_path / "bala", ending="") / "transforms_test.json").unlink()
    assert spans(list_insta(tmp_path).clips) == [("bala", "bala", 0, 12, "train")]


def test_several_subjects_and_those_that_cannot_be_read(tmp_path: Path) -> None:
    subject(tmp_path / "bala")
    (subject(tmp_path / "marcel") / "images/00003.png").unlink()
    (tmp_path / "notes").mkdir()
    listing = list_insta(tmp_path)
    assert [clip.clip_id for clip in listing.clips] == ["bala-train", "bala-test"]
    ((name, reason),) = listing.refused
    assert Path(name).name == "marcel"
    assert "marcel/images/00003.png: no such picture, though" in reason and "(1 of 12 are missing)" in reason


def test_a_subject_of_one_picture_is_a_clip_of_one_frame(tmp_path: Path) -> None:
    (subject(tmp_path / "ada", count=1, test=0) / "transforms_test.json").unlink()
    subject(tmp_path / "bala")
    assert spans(list_insta(tmp_path).clips)[:2] == [("ada", "ada", 0, 1, "train"), ("bala-train", "bala", 0, 8, "train")]


def test_a_linked_subject_has_the_links_name(tmp_path: Path) -> None:
    for name in ("bala", "marcel"):
        target = subject(tmp_path / "elsewhere" / name / "output")
        (tmp_path / name).symlink_to(target)
    assert {clip.subject_id for clip in list_insta(tmp_path).clips} == {"bala", "marcel"}


def test_two_folders_of_one_name_are_not_one_subject(tmp_path: Path) -> None:
    subject(tmp_path / "the king")
    twin = subject(tmp_path / safe_name("the king"))  # what the other one is called here
    listing = list_insta(tmp_path)
    assert len(listing.clips) == 2
    ((_, reason),) = listing.refused
    assert f"{tmp_path / 'the king'} and {twin}" in reason or f"{twin} and {tmp_path / 'the king'}" in reason
    assert f"are both the subject {twin.name}; give one of them another name" in reason


def test_pictures_between_that_no_file_names_are_told(tmp_path: Path) -> None:
    folder = subject(tmp_path / "bala")
    assert list_insta(folder).remarks == []
    named = [{"file_path": f"images/{number:05d}.png"} for number in range(12) if number not in (0, 3, 5)]
    write(folder, "", named)
    (remark,) = list_insta(folder).remarks  # the first picture lies before them and is not used
    assert remark.startswith(f"{folder / 'images'}: 2 pictures lie between those that transforms.json names and will be used")


@pytest.mark.parametrize(
    ("part", "frames", "says"),
    [
        ("", [], r"transforms.json: 'frames' = \[\], a list of at least one object"),
        ("", [{"file": "images/00000.png"}], r"transforms.json: frame 0: no 'file_path'; .*'file'"),
        ("", [{"file_path": "../other/00000.png"}], r"'file_path' names .*other/00000.png; pictures are expected in .*images"),
        ("_test", [{"file_path": "images/00004.png"}], r"transforms_test.json: .* 7 frames for training lie behind its first"),
        ("_test", [{"file_path": f"images/{n:05d}.png"} for n in range(12)], "none is left to train on .* Take the file away"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, part: str, frames: object, says: str) -> None:
    write(subject(tmp_path / "bala"), part, frames)
    with pytest.raises(SourceError, match=says):
        list_insta(tmp_path / "bala")


def test_what_is_no_such_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no such folder; it should hold transforms\.json"):
        list_insta(tmp_path / "none")
    with pytest.raises(SourceError, match=r"no transforms\.json in it, nor in its folders"):
        list_insta(tmp_path)
    folder = subject(tmp_path / "bala")
    (folder / "images").rename(folder / "pictures")
    with pytest.raises(SourceError, match="no folder images in it, where INSTA has the pictures"):
        list_insta(folder)
    (folder / "images").mkdir()
    with pytest.raises(SourceError, match="without numbered pictures"):
        list_insta(folder)
