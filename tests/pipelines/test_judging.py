"""Judging HeadGaS avatars by what faces tell: avatars that draw chosen pictures stand in for trained ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from avatar_models import reenactment
from avatar_models.cameras import Camera
from avatar_models.reenactment import Footage, Pictures, Points, Tracked
from pipelines import judging, tables
from pipelines.cache import Cache, Entry
from pipelines.csim_asset import CsimFile
from pipelines.evaluation import FIGURES, LPIPS, pictures
from pipelines.faces import CROSS_MEANS, FACE_MEANS
from pipelines.fanout import Item
from pipelines.frames import FrameReader, write_frames
from pipelines.judging import DRIVERS_KEPT, METRICS_SCHEMA, JudgeAvatar
from pipelines.methods import HEADGAS
from pipelines.subject import Shots
from tests.onnx_files import network_of
from tests.pipelines.formats.made import BAD, FRAMES, SIDE, write_project

HELD_OUT = [row for row in range(2, FRAMES) if row != BAD]
OPTIONS = {"test_fraction": 0.8, "max_frames": 100, "resolution": SIDE, "align_steps": 1, "background": "white"}
Drawn = Callable[[torch.Tensor], torch.Tensor]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two people, ann and cid, who look and move alike."""
    root = tmp_path_factory.mktemp("judged")
    write_project(root)
    for file, schema in (("segments", tables.SEGMENTS), ("tracks", tables.TRACKS), ("identities", tables.IDENTITIES)):
        path = root / f"data/tracks/{file}.parquet"
        rows = tables.read_table(path, schema).to_pylist()
        twin = [row | {key: "cid" for key in row if key in ("clip_id", "catalog_clip_id", "subject_id")} for row in rows]
        rows += [new for new, row in zip(twin, rows, strict=True) if row["clip_id"] == "ann"]
        tables.write_table(pa.Table.from_pylist(rows, schema), schema, path)
    ann = FrameReader(root / "data/frames").clip("ann").to_pylist()
    frames = {name: pa.Table.from_pylist([{**row, "clip_id": name} for row in ann], tables.FRAMES) for name in ("ann", "cid")}
    write_frames(root / "data/frames", list(frames.items()))
    return root


def itself(wanted: torch.Tensor) -> torch.Tensor:
    return wanted


@pytest.fixture
def judge(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Mapping[str, Any], pa.Table]]:
    """judge(item, drawn, by): summary and rows, for an avatar that draws what `drawn` makes of the wanted frames."""
    monkeypatch.chdir(project)
    monkeypatch.setattr(judging, "load_avatar", lambda folder, device: (None, {"camera": None, "head": "procedural"}))
    monkeypatch.setattr(judging, "driven_camera", lambda facts, camera, size: camera)
    workers: dict[CsimFile | None, JudgeAvatar] = {}

    def judged(item: str, drawn: Drawn = itself, by: CsimFile | None = None) -> tuple[Mapping[str, Any], pa.Table]:
        worker = workers.setdefault(by, JudgeAvatar(HEADGAS, OPTIONS, csim_file=by))
        wanted = worker.held_out(item[:3])
        assert wanted is not None

        def made(avatar: Any, camera: Camera, conditions: torch.Tensor, *more: Any) -> torch.Tensor:
            return drawn(pictures(wanted, 1.0))

        def aligned(avatar: Any, shots: Shots, *more: Any) -> torch.Tensor:
            return drawn(pictures(shots, 1.0))

        monkeypatch.setattr(judging, "render_shots", made)
        monkeypatch.setattr(judging, "render_aligned", aligned)
        out = Cache(str(tmp_path / "cache")).writer("a" * 64)
        out.commit(worker(Item(item, "0"), None, out), 0.0)
        entry = Cache(str(tmp_path / "cache")).find("a" * 64)
        assert isinstance(entry, Entry)
        return entry.summary, entry.read_table("metrics").cast(METRICS_SCHEMA)

    return judged


def blank(wanted: torch.Tensor) -> torch.Tensor:
    return torch.full_like(wanted, 0.5)


def test_an_avatar_that_is_the_person_is_perfect(judge: Callable[..., Any]) -> None:
    means, rows = judge("ann")
    assert {name: means[name] for name in FACE_MEANS if name in means} == {
        "akd": 0, "aed": 0, "apd": 0, "mouth_correlation": pytest.approx(1), "no_face_made": 0,
    }  # fmt: skip
    assert "csim" not in means and rows["csim"].null_count == len(HELD_OUT)  # it is off
    assert rows["subject_id"].to_pylist() == rows["driver_id"].to_pylist() == ["ann"] * len(HELD_OUT)
    assert rows["akd"].to_pylist() == [0] * len(HELD_OUT) and all(0 < mouth < 0.5 for mouth in rows["mouth"].to_pylist())


def test_a_moved_picture_is_as_far_away_as_it_was_moved(judge: Callable[..., Any]) -> None:
    means, _ = judge("ann", lambda wanted: torch.roll(wanted, (3, -4), (2, 3)))
    assert means["akd"] == pytest.approx(5, abs=0.7) and means["psnr"] < 30


def test_a_frame_without_a_face_is_null_and_in_no_mean(judge: Callable[..., Any]) -> None:
    def one_is_blank(wanted: torch.Tensor) -> torch.Tensor:
        return torch.cat([wanted[:2], blank(wanted[2:3]), wanted[3:]])

    means, rows = judge("ann", one_is_blank)
    for name in ("akd", "aed", "apd", "mouth"):
        assert [k for k, value in enumerate(rows[name].to_pylist()) if value is None] == [2], name
    assert means["no_face_made"] == 1 and means["akd"] < 0.2 and rows["psnr"].null_count == 0  # the face is found anew


def test_an_avatar_without_a_face_has_no_figures_and_is_no_error(judge: Callable[..., Any]) -> None:
    for item in ("ann", "ann<cid"):
        means, rows = judge(item, blank)
        assert means["no_face_made"] == len(HELD_OUT) and rows["aed"].null_count == len(HELD_OUT)
        assert {means[name] for name in ("aed", "apd", "mouth_correlation")} == {None}
    assert judge("ann", blank)[0]["psnr"] > 0


def test_in_cross_reenactment_an_avatar_moves_like_the_driver_and_no_picture_is_wanted(judge: Callable[..., Any]) -> None:
    means, rows = judge("ann<cid")
    assert means == {
        "frames": len(HELD_OUT), "aed": 0, "apd": 0, "mouth_correlation": pytest.approx(1), "no_face_made": 0,
    }  # fmt: skip
    assert set(means) - {"frames"} == set(CROSS_MEANS) - {"csim"}
    assert {(row["subject_id"], row["driver_id"], row["clip_id"]) for row in rows.to_pylist()} == {("ann", "cid", "cid")}
    assert all(rows[name].null_count == len(HELD_OUT) for name in (*FIGURES, *LPIPS, "akd")) and rows["aed"].null_count == 0
    assert rows["frame"].to_pylist() == [2 * row + 5 for row in HELD_OUT]


def test_a_drivers_frames_are_looked_at_once_whomever_they_drive(
    judge: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at: list[int] = []
    landmarks_of = reenactment.landmarks_of

    def counted(shown: Pictures, task: bytes | None = None) -> Points:
        looked_at.append(len(shown))
        return landmarks_of(shown, task)

    monkeypatch.setattr(reenactment, "landmarks_of", counted)
    one = network_of(tmp_path / "colours.onnx")
    for item in ("cid", "ann<cid"):
        judge(item)
    assert looked_at == [len(HELD_OUT)] * 3  # the driver, and what was made of him twice
    looked_at.clear()
    judge("cid", by=CsimFile(one.resolve(), "sface"))
    assert looked_at == [len(HELD_OUT)] * 2  # those whom it should look like are known already


def test_a_worker_remembers_so_many_drivers_and_no_more(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    worker = JudgeAvatar(HEADGAS, OPTIONS)
    seen = Tracked(np.zeros((1, 478, 3), np.float32), np.zeros((1, 2)), np.zeros((1, 3)))
    monkeypatch.setattr(judging, "track_known", lambda filmed, head: seen)
    for number in range(DRIVERS_KEPT + 3):
        worker.meant(f"p{number}", Footage(np.zeros((1, 8, 8, 3), np.uint8), np.eye(3)[None], np.zeros(2)))
    assert list(worker.seen) == [f"p{number}" for number in range(3, DRIVERS_KEPT + 3)]


def test_likeness_is_to_the_frames_themselves_and_across_people_to_the_targets_own(
    judge: Callable[..., Any], tmp_path: Path
) -> None:
    by = CsimFile(network_of(tmp_path / "colours.onnx").resolve(), "arcface")  # the face's mean colour, from -1 to 1
    means, rows = judge("ann", by=by)
    assert means["csim"] == pytest.approx(1, abs=1e-3) and rows["csim"].null_count == 0

    def coloured(wanted: torch.Tensor) -> torch.Tensor:
        return wanted * torch.tensor([0.4, 1.0, 0.4])[:, None, None]

    other, _ = judge("ann", coloured, by=by)
    same, across = judge("ann<cid", by=by)[0], judge("ann<cid", coloured, by=by)[0]
    assert other["csim"] < 0.9 > across["csim"] and same["csim"] > 0.95
