"""Photos are moved by a video. Tests on real photos and clips skip where they are not; the model is an untrained one."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
import pyarrow as pa
import pytest
import torch
from typer.testing import CliRunner

from avatar_models.avatar import load_avatar
from avatar_models.cameras import project, resized
from avatar_models.gagavatar.storage import model_files
from avatar_models.heads.procedural import procedural_head
from headwater.animate import AnimateError, check_kept, check_output, check_size, color_of, drawn, even_rows, over, zoomed
from headwater.cli import app
from pipelines import tables
from pipelines.atomic import sha256_file
from pipelines.catalog import catalog_row
from pipelines.fanout import FanOutResult
from pipelines.params import load_params
from pipelines.preprocess import preprocess_steps
from pipelines.preprocess.assemble import write_outs
from pipelines.preprocess.together import FIT_TOGETHER
from pipelines.probe import probe_video
from pipelines.sources import VideoClip
from pipelines.subject import CATALOG_FILE
from pipelines.tracked_file import CLIP, file_item
from pipelines.video import write_video
from tests.avatar_models.gagavatar.tiny import SIDE, VERTICES, cameras, tiny
from tests.conftest import ROOT
from tests.in_process import do_all

FRAMES = 8


@pytest.fixture
def small_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project that looks at the first eight frames of a clip, with an untrained model for its head."""
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "params.yaml").read_text()
    Path("params.yaml").write_text(text.replace("max_frames: 1000", f"max_frames: {FRAMES}"))
    return stored(Path("models/oneshot"), head="procedural", head_hash=procedural_head().hash())


def stored(folder: Path, **facts: str) -> Path:
    folder.mkdir(parents=True)
    for name, data in model_files(tiny(), torch.arange(VERTICES), facts).items():
        (folder / name).write_bytes(data)
    return folder


def animate(*words: str | Path) -> tuple[int, str]:
    """(exit code, what is said, in one line)."""
    result = CliRunner().invoke(app, ["animate", *map(str, words)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, " ".join(result.output.split())


def frames(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_a_photo_talks_as_the_driver_does(shared: Path, small_project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = shared / "clips" / "d18.mp4"
    words = (shared / "photos" / "art_8.jpg", "--driver", driver, "-o", "a.mp4")
    code, said = animate(*words, "--save-avatar", "kept")
    assert code == 0, said
    assert f"{FRAMES} frames, {SIDE} x {SIDE} each" in said and "the first 8 frames of 216" in said
    found = frames(Path("a.mp4"))
    assert len(found) == FRAMES and found[0].shape == (SIDE, SIDE, 3)
    with av.open("a.mp4") as made, av.open(str(driver)) as source:
        assert made.streams.video[0].average_rate == source.streams.video[0].average_rate
        packets = [bytes(packet) for packet in made.demux(made.streams.audio[0]) if packet.size]
        wanted = [packet for packet in source.demux(source.streams.audio[0]) if packet.size and packet.pts >= 0]
        assert packets == [bytes(packet) for packet in wanted if packet.pts * packet.time_base < FRAMES / 30]
    kept, facts = load_avatar(Path("kept"))
    assert facts["subject_id"] == "art_8" and len(facts["neutral"]) == kept.condition_size == len(facts["condition_names"])
    result = CliRunner().invoke(app, ["render", "kept", "-o", "still.png", "--expression", "jaw_x=0.3", "--size", "48"])
    assert result.exit_code == 0 and cv2.imread("still.png").shape == (48, 48, 3)
    for words_of_others, told in (
        (("export", "kept", "-o", "a.ply"), "no viewer"),
        (("compress", "kept", "less"), "gagavatar"),
    ):
        result = CliRunner().invoke(app, list(words_of_others))
        assert result.exit_code == 1 and told in " ".join(result.output.split())
    # A driver that is known is not looked at again.
    monkeypatch.setattr("pipelines.preprocess.observe.ObserveClip.__call__", lambda *_: pytest.fail("is tracked again"))
    again = animate(*words[:-1], "b.mp4")
    assert again[0] == 0 and Path("b.mp4").read_bytes() == Path("a.mp4").read_bytes()


def test_a_tracked_clip_of_the_project_drives_as_its_video_does(shared: Path, small_project: Path) -> None:
    photo, driver, params = shared / "photos" / "art_8.jpg", shared / "clips" / "d18.mp4", load_params()
    item = file_item(driver, params)
    write_outs(
        do_all("preprocess", preprocess_steps(params), [item], Path(params.compute.cache)), FanOutResult(FIT_TOGETHER, [])
    )
    clip = {**vars(VideoClip(CLIP, CLIP, "cam0", driver)), "path": str(driver)}
    rows = [catalog_row(clip, probe_video(driver), sha256_file(driver))]
    tables.write_table(pa.Table.from_pylist(rows, schema=tables.CATALOG), tables.CATALOG, CATALOG_FILE)
    for name, words in (("file.mp4", driver), ("clip.mp4", CLIP)):
        code, said = animate(photo, "--driver", words, "-o", name)
        assert code == 0, said
    assert Path("file.mp4").read_bytes() == Path("clip.mp4").read_bytes()
    code, said = animate(photo, "--driver", "clipp", "-o", "a.mp4")
    assert code == 1 and f"no such tracked clip either: no tracked clip 'clipp'. Did you mean '{CLIP}'?" in said


def test_of_a_driver_with_a_cut_the_longest_part_is_used(shared: Path, small_project: Path) -> None:
    parts = [frames(shared / "clips" / name)[:count] for name, count in (("d0.mp4", 3), ("d18.mp4", 5))]
    write_video(Path("cut.mp4"), [cv2.resize(picture, (320, 320)) for part in parts for picture in part], 25)
    code, said = animate(shared / "photos" / "art_8.jpg", "--driver", "cut.mp4", "-o", "a.mp4")
    assert code == 0 and "wrote a.mp4: 5 frames" in said
    assert "split it into 2 parts; the longest is used, from 0.1 s to 0.3 s" in said


def test_several_photos_stand_beside_their_driver(shared: Path, small_project: Path) -> None:
    photos = [shared / "photos" / name for name in ("art_8.jpg", "art_2.jpg")]
    driver = shared / "clips" / "d0.mp4"
    code, said = animate(*photos, "--driver", driver, "-o", "a.mp4", "--with-driver", "--size", "64", "--save-avatar", "kept")
    assert code == 0, said
    assert {path.name for path in Path("kept").iterdir()} == {"art_8", "art_2"}
    first = frames(Path("a.mp4"))[0]
    assert first.shape == (64, 3 * 64, 3)
    left, middle, right = first[:, :64].astype(int), first[:, 64:128].astype(int), first[:, 128:].astype(int)
    assert left.std() > 30 and np.abs(middle - right).mean() > 1  # a real picture; two people
    with av.open("a.mp4") as container:
        assert not container.streams.audio  # d0.mp4 is silent


def test_what_cannot_be_animated_is_told(shared: Path, small_project: Path) -> None:
    photo, driver = shared / "photos" / "art_8.jpg", shared / "clips" / "d0.mp4"
    write_video(Path("gray.mp4"), [np.full((96, 96, 3), 128, np.uint8)] * 3, 25)
    assert "--driver gray.mp4: no face in any of 3 frames" in animate(photo, "--driver", "gray.mp4", "-o", "a.mp4")[1]
    code, said = animate(photo, "--driver", "ada", "-o", "a.mp4")
    assert code == 1 and "--driver ada: there is no such file, and no such tracked clip either" in said
    assert "gone.jpg: no such file" in animate("gone.jpg", "--driver", driver, "-o", "a.mp4")[1]
    assert not Path("a.mp4").exists()


def test_the_model_and_its_head_are_the_projects(small_project: Path) -> None:
    words = ("a.jpg", "--driver", "b.mp4", "-o", "a.mp4", "--model")
    assert "a.jpg: no such file" in animate(*words, "models/none")[1]
    Path("a.jpg").mkdir()
    assert "a.jpg: is a folder" in animate(*words, "models/none")[1]
    Path("a.jpg").rmdir()
    Path("a.jpg").touch()
    said = animate(*words, "models/none")[1]
    assert (
        "models/none: there is no model" in said and "dvc repro train_oneshot" in said and "headwater import gagavatar" in said
    )
    other = stored(Path("models/flame"), head="flame", head_hash="")
    assert "was made for the head flame, preprocess.head is procedural" in animate(*words, other)[1]
    older = stored(Path("models/older"), head="procedural", head_hash="0")
    assert "was made for another file of the head procedural" in animate(*words, older)[1]


def test_what_is_asked_for_is_checked_before_anything_is_computed(tmp_path: Path) -> None:
    with pytest.raises(AnimateError, match="a.avi: an animation is an .mp4 file"):
        check_output(Path("a.avi"))
    (tmp_path / "a.mp4").mkdir()
    with pytest.raises(AnimateError, match="is a folder"):
        check_output(tmp_path / "a.mp4")
    (tmp_path / "kept").mkdir()
    check_kept(tmp_path / "kept", [Path("me.jpg"), Path("you.jpg")])
    with pytest.raises(AnimateError, match="more than one photo is named me; rename one"):
        check_kept(tmp_path / "kept", [Path("here/me.jpg"), Path("there/me.png")])
    (tmp_path / "kept" / "file").touch()
    with pytest.raises(AnimateError, match="is there already"):
        check_kept(tmp_path / "kept", [Path("me.jpg")])
    for size in (30, 101, 4098):
        with pytest.raises(AnimateError, match=f"--size {size}: must be even, from 32 to 4096"):
            check_size(size, 1)
    check_size(4096, 4)
    with pytest.raises(AnimateError, match="5 panels of 4096 pixels are wider than 16384"):
        check_size(4096, 5)
    assert color_of("#ff0080").tolist() == pytest.approx([1, 0, 128 / 255]) and color_of("white").tolist() == [1, 1, 1]
    with pytest.raises(AnimateError, match="--background whit: not a colour"):
        color_of("whit")


def test_frames_are_shown_when_they_were_seen() -> None:
    even = np.arange(50) / 25 + 3
    rows, fps = even_rows(even)
    assert rows.tolist() == list(range(50)) and fps == pytest.approx(25)
    # Half a second without a face: the picture stands still, and what comes after is not early.
    gap = np.delete(even, np.arange(20, 32))
    rows, fps = even_rows(gap)
    assert fps == pytest.approx(37 / (49 / 25))
    late = np.abs(gap[rows] - (gap[0] + np.arange(len(rows)) / fps))
    assert late.max() == pytest.approx(13 / 25 / 2, abs=1 / 25) and np.median(late) <= 1 / 50
    assert even_rows(np.array([1.0]))[0].tolist() == [0]


def test_a_driven_head_is_as_large_as_in_the_photo() -> None:
    head = torch.tensor([[0, 0.1, 0], [0, -0.1, 0], [0.0, 0, 0]])[None]
    photo, driver = cameras(1, 64), resized(cameras(5, 200), 300, 300)
    nearer = driver.viewmat.clone()
    nearer[:, 2, 3] *= 0.5
    for views in (driver, type(driver)(driver.K, nearer, 300, 300)):
        made = zoomed(views, photo)
        assert (made.width, made.height) == (64, 64) and torch.equal(made.viewmat, views.viewmat)
        sizes = made.K[:, 0, 0] / made.viewmat[:, 2, 3]
        assert float(sizes.median()) == pytest.approx(float(photo.K[0, 0, 0] / photo.viewmat[0, 2, 3]), rel=1e-5)
        # The picture's middle stays where it is.
        before, after = project(head, resized(views, 64, 64)) - 32, project(head, made) - 32
        torch.testing.assert_close(after / before, (after / before)[:1, :1, :1].expand_as(after), rtol=1e-3, atol=1e-3)


def test_a_person_over_black_is_put_over_a_colour(shared: Path) -> None:
    photo = cv2.resize(cv2.imread(str(shared / "photos" / "art_8.jpg"))[..., ::-1], (256, 256))
    person = photo.copy()
    person[:, :20] = person[:, -20:] = 0
    (black,) = over([person], np.zeros(3, np.float32))
    assert black is person
    (blue,) = over([person], np.array([0, 0, 1], np.float32))
    assert blue[10, 5, 2] > 200 and np.abs(blue[120:140, 120:140].astype(int) - photo[120:140, 120:140]).mean() < 5


def test_what_was_not_drawn_is_no_person_and_a_dark_mouth_is() -> None:
    picture = np.zeros((200, 200, 3), np.uint8)
    cv2.circle(picture, (100, 90), 60, (180, 140, 120), cv2.FILLED)
    cv2.circle(picture, (100, 115), 15, (0, 0, 0), cv2.FILLED)
    cv2.circle(picture, (10, 190), 2, (255, 255, 255), cv2.FILLED)  # a speck
    alpha = drawn(picture)
    assert alpha[90, 100] == 255 and alpha[115, 100] == 255
    assert alpha[180, 100] == 0 and alpha[190, 10] == 0
    assert 0 < alpha[90, 160] < 255
