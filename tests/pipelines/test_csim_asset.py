"""CSIM's file: off and said, or another than the published one and said."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from avatar_models.face_embedding import SFACE_SHA256, SFACE_URL, SIDE, FaceNetworkError
from headwater.assets import show_added
from pipelines.csim_asset import csim_assets, face_embedder, say_csim_is_off
from pipelines.params import Evaluate, TrainHeadgas
from pipelines.perceptual_asset import ABSENT
from tests.onnx_files import network_of


def test_where_it_is_not_asked_for_nothing_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    say_csim_is_off(Evaluate())
    assert capsys.readouterr().err == "" and face_embedder(Evaluate()) is None and csim_assets(Evaluate()) == {}


def test_a_missing_file_is_said_once_with_the_way_to_get_it(capsys: pytest.CaptureFixture[str]) -> None:
    wanted = Evaluate(sface_weights="nowhere.onnx")
    say_csim_is_off(wanted)
    told = capsys.readouterr().err
    assert told.count("CSIM is OFF, evaluate.sface_weights = nowhere.onnx notwithstanding: nowhere.onnx: no such file") == 1
    assert SFACE_URL in told and SFACE_SHA256[:16] in told
    assert face_embedder(wanted) is None and csim_assets(wanted) == {"sface": ABSENT}


def test_another_network_embeds_and_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = Evaluate(sface_weights=str(network_of(tmp_path / "own.onnx")))
    say_csim_is_off(wanted)
    assert "CSIM is not SFace's: " in capsys.readouterr().err and len(csim_assets(wanted)["sface"]) == 64
    embed = face_embedder(wanted)
    assert embed is not None and np.allclose(embed(np.full((SIDE, SIDE, 3), 7, np.uint8)), 7)


def test_a_file_of_no_use_stops_before_anything_is_judged(tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"no")
    with pytest.raises(FaceNetworkError, match="bad.onnx: not an ONNX network"):
        say_csim_is_off(Evaluate(sface_weights=str(tmp_path / "bad.onnx")))


def test_it_is_among_the_files_that_a_user_may_add() -> None:
    printed = io.StringIO()
    show_added(Console(file=printed, width=200), TrainHeadgas(), Evaluate())
    told = printed.getvalue()
    assert "sface, Apache-2.0 (OpenCV Zoo): not in use: evaluate.sface_weights is empty" in told
    assert SFACE_URL in told and SFACE_SHA256 in told
