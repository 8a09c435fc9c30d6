"""`headwater overlay`: the fitted head over the source and the crop, frames without a face, and what is said of wrong words."""

from __future__ import annotations

import shutil
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from headwater.cli import app
from pipelines import tables
from pipelines.overlay import CARD, LEFT_OUT
from pipelines.probe import probe_video
from pipelines.video import write_video
from tests.pipelines.formats.made import BAD, FRAMES, SIDE, detected, made_clip, pictures, write_project

ROOT = Path(__file__).resolve().parents[2]
MARGIN = 32  # of the source picture, around the crops
SIZE = 192
VIDEO = Path("data/raw/ann.mp4")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The made clip `ann`, its crops in the middle of a larger video; every second frame of that has no face."""
    write_project(tmp_path, corner=(MARGIN, MARGIN))
    shutil.copy(ROOT / "params.yaml", tmp_path / "params.yaml")
    monkeypatch.chdir(tmp_path)
    write_source([shot.image for shot in pictures()])
    return tmp_path


def write_source(images: list[np.ndarray]) -> None:
    side = SIDE + 2 * MARGIN
    shown = {frame: image for frame, image in zip(made_clip().frames.tolist(), images, strict=True)}
    frames = [np.full((side, side, 3), 90, np.uint8) for _ in range(30)]
    for frame, image in shown.items():
        frames[frame][MARGIN:-MARGIN, MARGIN:-MARGIN] = image
    VIDEO.parent.mkdir(parents=True, exist_ok=True)
    write_video(VIDEO, frames, 16)
    facts = probe_video(VIDEO)
    row = {
        "clip_id": "ann", "subject_id": "ann", "camera_id": "cam0", "source": str(VIDEO), "frame_start": 0, "frame_end": 30,
        "fps": facts.fps, "fps_header": facts.fps_header, "frames_header": 30, "frames_found": 30, "variable_rate": False,
        "width": side, "height": side, "rotation": 0, "crop": None, "split": "train", "fingerprint": "0",
    }  # fmt: skip
    tables.write_table(pa.Table.from_pylist([row], tables.CATALOG), tables.CATALOG, Path("data/catalog/catalog.parquet"))


def run(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["overlay", *words, "--size", str(SIZE)])
    return result.exit_code, " ".join(result.output.split())


def shown(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24").astype(int) for frame in container.decode(video=0)]


def is_red(picture: np.ndarray) -> bool:
    """Whether the crop's panel, the rightmost, is framed in red."""
    return bool(np.abs(picture[4:-4, -1][: SIZE - 8].mean(0) - LEFT_OUT).max() < 25)


def test_source_crop_head_and_gaps_are_shown(project: Path) -> None:
    code, output = run("ann", "-o", "out/ann.mp4")
    assert (code, output) == (
        0,
        f"wrote out/ann.mp4: {2 * FRAMES - 1} frames, 1 left out of training, {FRAMES - 1} without a face",
    )
    found = shown(project / "out/ann.mp4")
    assert len(found) == 2 * FRAMES - 1 and found[0].shape[1] == 2 * SIZE
    crops = [picture[:SIZE, SIZE:] for picture in found]
    for k in range(1, len(crops), 2):
        assert np.abs(np.median(crops[k], (0, 1)) - CARD).max() < 8  # no face
    assert [is_red(picture) for picture in found] == [k == 2 * BAD for k in range(len(found))]
    # The mesh is bluer than what it covers, between the landmarks and nowhere near the crop's upper corners.
    plain = np.kron(pictures()[4].image.astype(int), np.ones((SIZE // SIDE, SIZE // SIDE, 1), int))
    bluer = (crops[8] - plain)[..., 2] - (crops[8] - plain)[..., 0]
    x, y = (detected()[4] * SIZE / SIDE).mean(0).astype(int)
    assert bluer[y - 20 : y + 20, x - 20 : x + 20].mean() > 25 and abs(bluer[:16, :16].mean()) < 8
    # The source's panel holds the whole picture, and the crop's square at its place.
    panel, scale = found[8][:SIZE, :SIZE], SIZE / (SIDE + 2 * MARGIN)
    edge = round(MARGIN * scale)
    assert abs(panel[:8, :8].mean() - 90) < 5 and panel[edge - 2 : edge + 2, SIZE // 2].max() > 200


def test_the_stored_crops_alone(project: Path) -> None:
    code, output = run("ann", "-o", "ann.mp4", "--crop")
    assert code == 0 and f"{FRAMES} frames, 1 left out of training, 0 without a face" in output
    found = shown(project / "ann.mp4")
    assert len(found) == FRAMES and found[0].shape[1] == SIZE
    assert [is_red(picture) for picture in found] == [row == BAD for row in range(FRAMES)]


def test_without_its_source_a_clip_is_shown_by_its_crops(project: Path) -> None:
    VIDEO.unlink()
    code, output = run("ann", "-o", "ann.mp4")
    assert code == 0 and "source video data/raw/ann.mp4 cannot be read any more: there is no such file" in output
    assert "The stored crops are shown alone" in output and shown(project / "ann.mp4")[0].shape[1] == SIZE


def test_another_video_under_the_same_name_is_noticed(project: Path) -> None:
    write_source([255 - shot.image for shot in pictures()])
    code, output = run("ann", "-o", "ann.mp4")
    assert code == 0 and "data/raw/ann.mp4 is not the one that was tracked; `dvc repro` tracks it anew" in output


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("anne", "-o", "x.mp4"), "no tracked clip 'anne'. Did you mean 'ann'? There are: ann, bob"),
        (("ann", "-o", "x.avi"), "x.avi: an overlay is an .mp4 file"),
        (("bob", "-o", "x.mp4"), "data/tracks: has no tracks of bob. `dvc repro` makes them again"),
        (("ann", "-o", "params.yaml/x.mp4"), "params.yaml/x.mp4: cannot be written"),
        (("ann", "-o", "data.mp4"), "data.mp4: is a folder; name a file"),
    ],
)
def test_wrong_words_are_told(project: Path, words: tuple[str, ...], says: str) -> None:
    Path("data.mp4").mkdir()
    code, output = run(*words)
    assert code == 1 and says in output and not Path("x.mp4").exists()


def test_tables_that_are_missing_say_what_makes_them(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("data/frames/shard-00000.arrow").unlink()
    assert "the tables of ann cannot be read" in run("ann", "-o", "x.mp4")[1]
    Path("data/tracks/landmarks.parquet").unlink()
    assert "landmarks.parquet: not found. `dvc repro` makes it" in run("ann", "-o", "x.mp4")[1]
    shutil.rmtree("data")
    assert "segments.parquet: not found. `dvc repro` makes it" in run("ann", "-o", "x.mp4")[1]


def test_a_full_disk_is_told_and_leaves_nothing(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    code, output = run("ann", "-o", "x.mp4", "--crop")
    assert code == 1 and "x.mp4: the disk is full; make room there, or name a place on another one" in output
    assert not list(project.glob("*x.mp4*"))
