"""Judging the one-shot model: what is compared with what, and what is written."""

from __future__ import annotations

import shutil
from io import BytesIO
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from avatar_models import reenactment
from avatar_models.gagavatar.storage import model_files
from avatar_models.reenactment import Pictures, Points
from pipelines.cache import Cache, Entry
from pipelines.csim_asset import CsimFile
from pipelines.faces import CROSS_MEANS
from pipelines.fanout import Item, ItemRejected
from pipelines.oneshot import evaluation
from pipelines.oneshot.evaluation import METHODS, SCHEMA, JudgeOneshot
from tests.avatar_models.gagavatar.tiny import SIDE, TINY, tiny
from tests.onnx_files import network_of
from tests.pipelines.oneshot.made import FPS, FRAMES, START, STEP


@pytest.fixture
def judge(people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> JudgeOneshot:
    shutil.copytree(people / "data", tmp_path / "data")
    folder = tmp_path / "models" / "oneshot"
    folder.mkdir(parents=True)
    for name, data in model_files(tiny(), torch.arange(TINY.num_vertices), {"head": "procedural", "head_hash": ""}).items():
        (folder / name).write_bytes(data)
    monkeypatch.chdir(tmp_path)
    return JudgeOneshot({"max_frames": 3})


def judged(judge: JudgeOneshot, name: str, folder: Path) -> Entry:
    cache, key = Cache(str(folder / "cache")), "1" * 64
    out = cache.writer(key)
    out.commit(judge(Item(name, "0"), None, out), 0.0)
    entry = cache.find(key)
    assert isinstance(entry, Entry)
    return entry


def test_the_first_frame_is_the_photo_and_the_others_are_wanted(judge: JudgeOneshot, tmp_path: Path) -> None:
    scene = judge.scene("bob", "bob")
    assert scene.own and scene.rows.tolist() == [1, 2, 3]
    assert all(torch.equal(photo, scene.batch.photos[0]) for photo in scene.batch.photos)
    made = judge.made(scene, judge.seen(scene))
    assert list(made) == list(METHODS)
    assert all(pictures.shape == (FRAMES - 1, 3, SIDE, SIDE) for pictures in made.values())
    assert torch.equal(made["copy"][2], made["copy"][0])
    assert (made["copy"][0] - scene.batch.photos[0]).abs().max() <= 0.5 / 255 + 1e-6


def test_on_a_gpu_figures_are_the_same(judge: JudgeOneshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpu: str) -> None:
    monkeypatch.setattr(evaluation, "reserved_device", lambda: gpu)
    there = JudgeOneshot({"max_frames": 3})
    found, wanted = (judged(own, "bob", tmp_path / name).summary for own, name in ((there, "gpu"), (judge, "cpu")))
    assert found["gagavatar"]["psnr"] == pytest.approx(wanted["gagavatar"]["psnr"], abs=0.01)


def test_every_frame_of_every_method_has_a_row_and_nothing_without_a_face_counts(judge: JudgeOneshot, tmp_path: Path) -> None:
    entry = judged(judge, "bob", tmp_path)
    rows = entry.read_table("metrics")
    assert rows.schema.equals(SCHEMA) and rows.num_rows == 3 * (FRAMES - 1)
    assert set(entry.summary) == set(METHODS)
    noise = entry.summary["gagavatar"]  # an untrained model draws no face
    assert noise["no_face_made"] == FRAMES - 1 and noise["akd"] is None and noise["csim"] is None
    by_hand = [row["psnr"] for row in rows.to_pylist() if row["method"] == "copy"]
    assert entry.summary["copy"]["psnr"] == pytest.approx(np.mean(by_hand), abs=1e-3)
    assert entry.summary["copy"]["psnr"] > noise["psnr"]
    assert entry.read_bytes("strip.png")[:4] == b"\x89PNG" and len(entry.read_bytes("video.mp4")) > 1000


def test_a_video_of_every_other_frame_plays_as_fast_as_the_clip(judge: JudgeOneshot, tmp_path: Path) -> None:
    judge.max_frames = 2
    assert judge.scene("bob", "bob").rows.tolist() == [1, 3]
    with av.open(BytesIO(judged(judge, "bob", tmp_path).read_bytes("video.mp4"))) as video:
        assert float(video.streams.video[0].average_rate) == FPS / 2


def test_in_cross_reenactment_no_picture_is_wanted(judge: JudgeOneshot, tmp_path: Path) -> None:
    scene = judge.scene("bob", "cleo")
    assert not scene.own and scene.rows.tolist() == [0, 2, 3]  # spread evenly
    assert torch.equal(scene.batch.photos[0], judge.scene("bob", "bob").batch.photos[0])
    assert not torch.equal(scene.identity, scene.batch.identity[0])
    entry = judged(judge, "bob<cleo", tmp_path)
    assert set(entry.summary["gagavatar"]) == set(CROSS_MEANS)
    rows = entry.read_table("metrics").to_pylist()
    assert {(row["subject_id"], row["driver_id"], row["clip_id"], row["psnr"]) for row in rows} == {
        ("bob", "cleo", "cleo", None)
    }
    assert [row["frame"] for row in rows] == [START + STEP * row for row in (0, 2, 3)] * len(METHODS)  # the source video's


def test_photo_and_driving_frames_are_looked_at_once_whatever_is_compared_with_them(
    judge: JudgeOneshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at: list[int] = []
    landmarks_of = reenactment.landmarks_of

    def counted(shown: Pictures, task: bytes | None = None) -> Points:
        looked_at.append(len(shown))
        return landmarks_of(shown, task)

    for module in (reenactment, evaluation):
        monkeypatch.setattr(module, "landmarks_of", counted)
    judge.csim_file = CsimFile(network_of(tmp_path / "own.onnx").resolve(), "arcface")
    entry = judged(judge, "bob", tmp_path)
    assert looked_at == [1, FRAMES - 1] + [FRAMES - 1] * len(METHODS)
    assert all("csim" in means for means in entry.summary.values())


def test_somebody_without_a_pair_is_refused(judge: JudgeOneshot) -> None:
    with pytest.raises(ItemRejected, match="nobody: no clip of it has two good frames"):
        judge.scene("nobody", "nobody")
