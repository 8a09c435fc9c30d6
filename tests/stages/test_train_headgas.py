"""What the perceptual weights' absence does to a key, and that it is said."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from avatar_models.perceptual import PerceptualWeightsError, Vgg16Features
from pipelines.params import Params, Source, TrainHeadgas
from pipelines.perceptual_asset import ABSENT, perceptual_asset, perceptual_is_off, say_what_is_off
from pipelines.training_items import training_step as step


def params(**train: object) -> Params:
    return Params(source=Source(kind="folder", path="a", watch="a"), train_headgas=TrainHeadgas(**train))


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "vgg.pth"
    torch.save(Vgg16Features().state_dict(), path)
    return path


def test_absent_weights_are_said_and_are_part_of_the_key(capsys: pytest.CaptureFixture[str]) -> None:
    wanted = params(lambda_perceptual=0.1, perceptual_weights="nowhere.pth")
    say_what_is_off(wanted.train_headgas)
    told = capsys.readouterr().err
    assert "the perceptual loss is OFF" in told and "nowhere.pth: no such file" in told and "vgg16-397923af.pth" in told
    assert step(wanted).assets == {"vgg16": ABSENT} and perceptual_is_off(wanted.train_headgas)


def test_a_loss_that_nobody_asked_for_is_no_matter(capsys: pytest.CaptureFixture[str]) -> None:
    say_what_is_off(TrainHeadgas())
    assert capsys.readouterr().err == "" and step(params()).assets == {}


def test_the_weights_content_counts_and_not_their_place(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved = tmp_path / "moved.pth"
    moved.write_bytes(weights.read_bytes())
    first, second = (params(lambda_perceptual=0.1, perceptual_weights=str(path)) for path in (weights, moved))
    assert step(first).key("x") == step(second).key("x") != step(params(lambda_perceptual=0.1)).key("x")
    assert not perceptual_is_off(first.train_headgas) and len(perceptual_asset(first.train_headgas)["vgg16"]) == 64


def test_weights_of_no_use_stop_before_anything_is_trained(tmp_path: Path) -> None:
    (tmp_path / "bad.pth").write_bytes(b"no")
    with pytest.raises(PerceptualWeightsError, match="not a file of weights"):
        say_what_is_off(TrainHeadgas(lambda_perceptual=0.1, perceptual_weights=str(tmp_path / "bad.pth")))


def test_how_often_checkpoints_are_written_changes_no_key() -> None:
    assert step(params(checkpoint_every=100)).key("x") == step(params()).key("x") != step(params(variant="no_mlp")).key("x")
