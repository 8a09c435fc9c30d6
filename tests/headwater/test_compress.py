"""`headwater compress`, and those who read what it wrote."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd  # type: ignore[import-untyped]
import pytest

from avatar_models.avatar import COMPRESSED_TENSORS, FACTS, avatar_files
from headwater.compress import random_conditions
from pipelines.avatar_pyfunc import AvatarModel
from pipelines.training import camera_as_dict
from tests.avatar_models.headgas.test_inference import cameras
from tests.avatar_models.headgas.test_smaller import rigged
from tests.headwater.test_cli import run


@pytest.fixture
def avatar(tmp_path: Path) -> Path:
    model = rigged()
    facts = {
        "sizes": model.sizes_as_dict(),
        "condition_names": [f"value_{index}" for index in range(model.condition_size)],
        "neutral": model.neutral.tolist(),
        "camera": camera_as_dict(cameras(1)),
        "background": "white",
    }
    folder = tmp_path / "ann"
    folder.mkdir()
    for name, data in avatar_files("headgas", model.tensors(), facts).items():
        (folder / name).write_bytes(data)
    return folder


def test_a_compressed_avatar_is_rendered_exported_and_served_like_any_other(avatar: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    code, output = run("compress", str(avatar), str(small), "--rank", "0", "--features", "0")
    assert code == 0 and "times smaller" in output and "a pixel changes by 0.0" in output
    assert sorted(path.name for path in small.iterdir()) == sorted([COMPRESSED_TENSORS, FACTS])
    for folder in (avatar, small):
        code, _ = run("render", str(folder), "-o", str(folder / "a.png"), "--expression", "value_3=0.9", "--size", "64")
        assert code == 0
        assert run("export", str(folder), "-o", str(folder / "a.ply"))[0] == 0
    before, after = (cv2.imread(str(folder / "a.png")).astype(int) for folder in (avatar, small))
    assert 0 < np.abs(before - after).max() < 13  # of 255
    served = []
    for folder in (avatar, small):
        model = AvatarModel()
        model.load_context(SimpleNamespace(artifacts={"avatar": str(folder)}))
        served.append(model.predict(None, pd.DataFrame({"value_3": [0.9, -0.2]})).astype(int))
    assert served[0].shape == (2, 48, 48, 3) and np.abs(served[0] - served[1]).max() < 13


def test_what_cannot_be_compressed_is_told(avatar: Path, tmp_path: Path) -> None:
    assert "avatar.json is missing" in run("compress", str(tmp_path), str(tmp_path / "b"))[1]
    assert f"Did you mean {avatar}?" in run("compress", f"{avatar}x", str(tmp_path / "b"))[1]
    assert "is there already" in run("compress", str(avatar), str(avatar))[1]
    code, output = run("compress", str(avatar), str(tmp_path / "b"), "--bits", "7")
    assert code == 1 and "--bits 7" in output and "8 and 16" in output and not (tmp_path / "b").exists()
    assert run("compress", str(avatar), str(tmp_path / "b"))[0] == 0
    assert "is compressed already" in run("compress", str(tmp_path / "b"), str(tmp_path / "c"))[1]


def test_random_conditions_stay_within_what_training_saw() -> None:
    model = rigged()
    drawn = (random_conditions(model, 1000) - model.neutral) / model.spread
    assert drawn.abs().max() < 3.001 and drawn.std() == pytest.approx(1, abs=0.03)
