"""`headwater export-tracks`: each layout comes back from its reader, and wrong words are told."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from avatar_models.cameras import Camera
from avatar_models.cameras import project as projected
from avatar_models.heads.procedural import procedural_head
from headwater.cli import app
from pipelines.formats.clip import centred
from pipelines.formats.gagavatar_track import read_gagavatar_track
from pipelines.formats.insta import read_insta
from pipelines.formats.vhap import read_vhap
from tests.pipelines.formats.made import BAD, FRAMES, made_clip, pictures, write_project

ROOT = Path(__file__).resolve().parents[2]
KEPT = [row for row in range(FRAMES) if row != BAD]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_project(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path / "params.yaml")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["export-tracks", *words])
    return result.exit_code, " ".join(result.output.split())


READERS: dict[str, Callable[[Path], tuple[Camera, list[int], np.ndarray]]] = {
    "vhap": lambda folder: ((clip := read_vhap(folder, procedural_head()).clip).camera, clip.frames.tolist(), clip.expression),
    "gagavatar": lambda folder: ((found := read_gagavatar_track(folder)).camera, found.frames.tolist(), found.expression),
    "insta": lambda folder: ((found := read_insta(folder)).camera, found.frames.tolist(), found.expression),
}


@pytest.mark.parametrize("layout", READERS)
def test_each_layout_is_written_and_reads_back(project: Path, layout: str) -> None:
    code, output = run("ann", "--to", layout, "-o", "out/ann")
    assert code == 0 and "wrote out/ann: 9 frames of ann, 7 train and 2 test" in output
    assert "those of the head procedural" in output and ("pixels of 512" in output) == (layout == "gagavatar")
    camera, frames, expression = READERS[layout](project / "out/ann")
    clip, _ = centred(made_clip(), pictures())
    assert frames == clip.frames[KEPT].tolist() and expression == pytest.approx(clip.expression[KEPT], abs=1e-6)
    assert [path.name for path in (project / "out").iterdir()] == ["ann"]
    if layout != "gagavatar":  # its lens is its own; tests/pipelines/formats compares it
        points = np.random.default_rng(0).uniform(-0.08, 0.08, (1, 40, 3))
        cameras = (camera, clip.camera[torch.tensor(KEPT)])
        seen, wanted = (projected(torch.from_numpy(points), own).numpy() for own in cameras)
        assert np.abs(seen - wanted).max() < 2e-2


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("anne", "--to", "vhap", "-o", "x"), "no tracked clip 'anne'. Did you mean 'ann'? There are: ann, bob"),
        (("bob", "--to", "insta", "-o", "x"), "bob: did not pass (jitter 0.4 > 0.2)"),
        (("ann", "--to", "vhap", "-o", "data"), "data: is there already; name a folder that is not"),
        (("ann", "--to", "vhap", "-o", "params.yaml"), "params.yaml: is there already"),
        (("ann", "--to", "vhap", "-o", "params.yaml/x"), "params.yaml/x: cannot be written: Not a directory"),
    ],
)
def test_wrong_words_are_told(project: Path, words: tuple[str, ...], says: str) -> None:
    code, output = run(*words)
    assert code == 1 and says in output and not (project / "x").exists()


def test_an_unknown_layout_names_the_known_ones(project: Path) -> None:
    code, output = run("ann", "--to", "nerf", "-o", "x")
    assert code == 2 and all(name in output for name in ("vhap", "gagavatar", "insta"))


def test_outside_of_a_project_the_way_in_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "params.yaml: not found. Run from the project's folder" in run("ann", "--to", "vhap", "-o", "x")[1]
    shutil.copy(ROOT / "params.yaml", tmp_path / "params.yaml")
    assert "segments.parquet: not found. `dvc repro` makes it" in run("ann", "--to", "vhap", "-o", "x")[1]
