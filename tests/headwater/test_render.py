"""Frames of a driven video are rendered some at a time, and come out one by one; a GPU is used where there is one."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from avatar_models.avatar import avatar_files, render
from avatar_models.headgas import FrozenHeadGas
from headwater.render import TOGETHER, driven, pictures, render_to_file
from pipelines import tables
from pipelines.subject import NPHM, NPHM_TRACKS_FOLDER, UnknownSegment
from pipelines.training import camera_as_dict
from tests.avatar_models.headgas.test_inference import cameras, conditions, trained
from tests.pipelines.formats.made import write_project


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A tracked clip of ann's, and tables of neural heads without anybody."""
    write_project(tmp_path)
    for name, schema in (("segments", tables.SEGMENTS), ("tracks", tables.TRACKS), ("identities", tables.IDENTITIES)):
        tables.write_table(schema.empty_table(), schema, tmp_path / NPHM_TRACKS_FOLDER / f"{name}.parquet")
    return tmp_path


@torch.no_grad()
def test_each_frame_is_its_own_picture() -> None:
    model, count = trained(degree=1), TOGETHER + 3
    camera, wanted = cameras(count), conditions(count, model)
    found = list(pictures(FrozenHeadGas(model), camera, wanted, 1.0))
    assert len(found) == count
    for index, picture in enumerate(found):
        image = render(model, camera[index : index + 1], wanted[index : index + 1], torch.ones(3))[0]
        assert picture.dtype == np.uint8
        assert np.abs(picture - 255 * image.permute(1, 2, 0).numpy()).max() < 0.51


def test_on_a_gpu_a_still_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpu: str) -> None:
    model = trained(degree=1)
    facts = {"sizes": model.sizes_as_dict(), "camera": camera_as_dict(cameras(1)), "background": "white"}
    facts |= {"condition_names": [f"value_{index}" for index in range(model.condition_size)], "neutral": model.neutral.tolist()}
    for name, data in avatar_files("headgas", model.tensors(), facts).items():
        (tmp_path / name).write_bytes(data)
    shown = []
    for device in ("cpu", gpu):
        monkeypatch.setattr("headwater.render.drawing_device", lambda device=device: device)
        render_to_file(tmp_path, tmp_path / f"{device}.png", driver="", expressions=["value_3=0.9"], size=48)
        shown.append(cv2.imread(str(tmp_path / f"{device}.png")).astype(int))
    assert shown[0].std() > 10 and np.abs(shown[0] - shown[1]).max() <= 1


def test_a_driver_without_a_neural_head_is_told_how_to_get_one(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    with pytest.raises(UnknownSegment, match="ann has no neural head, see track_nphm.subjects"):
        driven({"head": NPHM, "head_hash": ""}, "ann", 48)
