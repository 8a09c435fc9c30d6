"""CSIM's file: off and said, of which network it is, or another than the published one and said."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from avatar_models.face_embedding import SFACE_SHA256, SFACE_URL, SIDE, FaceNetworkError
from headwater.assets import show_added
from pipelines import csim_asset
from pipelines.atomic import sha256_file
from pipelines.csim_asset import (
    NETWORK_TAG,
    CsimRecord,
    csim_assets,
    csim_file,
    csim_tag,
    read_csim_record,
    say_csim_is_off,
    write_csim_record,
)
from pipelines.params import Evaluate, ParamsError, TrainHeadgas, load_params
from pipelines.perceptual_asset import ABSENT
from tests.onnx_files import network_of


def test_where_it_is_not_asked_for_nothing_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    say_csim_is_off(Evaluate())
    assert capsys.readouterr().err == "" and csim_file(Evaluate()) is None and csim_assets(Evaluate()) == {}
    assert csim_tag(Evaluate()) == {NETWORK_TAG: "off"}


def test_a_missing_file_is_said_once_with_the_way_to_get_it(capsys: pytest.CaptureFixture[str]) -> None:
    wanted = Evaluate(csim_weights="nowhere.onnx")
    say_csim_is_off(wanted)
    told = capsys.readouterr().err
    assert told.count("CSIM is OFF, evaluate.csim_weights = nowhere.onnx notwithstanding: nowhere.onnx: no such file") == 1
    assert SFACE_URL in told and SFACE_SHA256[:16] in told
    assert csim_file(wanted) is None and csim_assets(wanted) == {"csim_sface": ABSENT}
    say_csim_is_off(Evaluate(csim_weights="nowhere.onnx", csim_network="arcface"))
    told = capsys.readouterr().err
    assert (
        "CSIM is OFF" in told and "Name an ONNX file of a network of the ArcFace kind there" in told and SFACE_URL not in told
    )


def test_another_network_embeds_and_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = Evaluate(csim_weights=str(network_of(tmp_path / "own.onnx")))
    say_csim_is_off(wanted)
    told = capsys.readouterr().err
    assert "CSIM is not SFace's" in told and "evaluate.csim_network can be arcface too" in told
    assert len(csim_assets(wanted)["csim_sface"]) == 64


def test_the_file_is_fed_as_the_network_that_it_is_said_to_be(tmp_path: Path) -> None:
    face = np.full((SIDE, SIDE, 3), 7, np.uint8)
    path = str(network_of(tmp_path / "own.onnx"))  # gives the mean of what it is fed
    for network, fed in (("sface", 7.0), ("arcface", (7 - 127.5) / 127.5)):
        file = csim_file(Evaluate.model_validate({"csim_weights": path, "csim_network": network}))
        assert file is not None and np.allclose(file.load()(face), fed, atol=1e-3)


def test_of_a_network_of_the_arcface_kind_its_sha256_is_said_and_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = network_of(tmp_path / "own.onnx")
    wanted, content = Evaluate(csim_weights=str(path), csim_network="arcface"), sha256_file(path)
    say_csim_is_off(wanted)
    told = capsys.readouterr().err
    assert f"a network of the ArcFace kind (sha256 {content})" in told and "WARNING" not in told
    assert csim_assets(wanted) == {"csim_arcface": content} and csim_tag(wanted) == {NETWORK_TAG: "arcface"}
    for evaluate, record in ((wanted, CsimRecord("ArcFace", content)), (Evaluate(), None)):
        write_csim_record(tmp_path, evaluate)
        assert read_csim_record(tmp_path) == record


def test_sface_is_not_taken_for_another_network(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = network_of(tmp_path / "own.onnx")
    monkeypatch.setattr(csim_asset, "SFACE_SHA256", sha256_file(path))
    say_csim_is_off(Evaluate(csim_weights=str(path), csim_network="arcface"))
    assert "own.onnx is OpenCV's SFace" in capsys.readouterr().err


def test_the_parameters_former_name_is_answered_with_the_new_one(tmp_path: Path) -> None:
    for block, told in (
        ("sface_weights: x.onnx", "'evaluate.csim_weights'"),
        ("csim_network: vggface", "'sface' or 'arcface'"),
    ):
        path = tmp_path / "params.yaml"
        path.write_text(f"source: {{kind: folder, path: a, watch: a}}\nevaluate: {{{block}}}\n")
        with pytest.raises(ParamsError, match=told):
            load_params(path)


def test_a_file_of_no_use_stops_before_anything_is_judged(tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"no")
    with pytest.raises(FaceNetworkError, match="bad.onnx: not an ONNX network"):
        say_csim_is_off(Evaluate(csim_weights=str(tmp_path / "bad.onnx")))
    with pytest.raises(FaceNetworkError, match="bad.onnx.*; take a network of the ArcFace kind"):
        say_csim_is_off(Evaluate(csim_weights=str(tmp_path / "bad.onnx"), csim_network="arcface"))


def added(evaluate: Evaluate) -> str:
    printed = io.StringIO()
    show_added(Console(file=printed, width=200), TrainHeadgas(), evaluate)
    return printed.getvalue()


def test_it_is_among_the_files_that_a_user_may_add(tmp_path: Path) -> None:
    told = added(Evaluate())
    assert "csim_sface, Apache-2.0 (OpenCV Zoo): not in use: evaluate.csim_weights is empty" in told
    assert SFACE_URL in told and SFACE_SHA256 in told
    path = network_of(tmp_path / "own.onnx")
    told = added(Evaluate(csim_weights=str(path), csim_network="arcface"))
    assert f"csim_arcface, a network of your own, under its own licence: ok: {path}, sha256 {sha256_file(path)}" in told
    assert SFACE_URL not in told
