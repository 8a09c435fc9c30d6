"""The perceptual loss: its weights' file, and what it compares."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch

from avatar_models.perceptual import PerceptualWeightsError, Vgg16Features, load_vgg16, matte_box, perceptual


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file laid out as torchvision's, with numbers drawn at random; its classifier is left out."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("vgg") / "own.pth"
    torch.save(
        {**Vgg16Features().state_dict(), "features.28.weight": torch.zeros(2), "classifier.0.bias": torch.zeros(2)}, path
    )
    return path


def test_features_are_those_after_the_last_relu_of_each_stage(weights: Path) -> None:
    features = load_vgg16(weights)
    found = features(torch.rand(1, 3, 32, 48))
    assert [tuple(f.shape[1:]) for f in found] == [(64, 32, 48), (128, 16, 24), (256, 8, 12), (512, 4, 6)]
    assert features.taps == [3, 8, 15, 22]  # relu1_2, relu2_2, relu3_3, relu4_3 in torchvision's numbering


def test_the_loss_looks_into_the_box_only(weights: Path) -> None:
    features = load_vgg16(weights)
    target = torch.rand(1, 3, 48, 48)
    outside, inside = target.clone(), target.clone().requires_grad_()
    outside[..., :8] = 0
    box = (8, 8, 40, 40)
    assert perceptual(features, outside, target, box) == 0
    value = perceptual(features, inside + 0.1, target, box)
    value.backward()
    assert value > 0 and inside.grad is not None
    assert inside.grad[..., 8:40, 8:40].abs().sum() > 0 and inside.grad[..., :8, :].abs().sum() == 0


def test_a_damaged_file_is_known_by_its_name(weights: Path) -> None:
    right = weights.with_name(f"vgg16-{hashlib.sha256(weights.read_bytes()).hexdigest()[:8]}.pth")
    right.write_bytes(weights.read_bytes())
    load_vgg16(right)
    wrong = weights.with_name("vgg16-397923af.pth")
    wrong.write_bytes(weights.read_bytes())
    with pytest.raises(PerceptualWeightsError, match="397923af: damaged; get it again from https://download.pytorch.org"):
        load_vgg16(wrong)


@pytest.mark.parametrize(
    "content, said",
    [
        ({"features.0.weight": torch.zeros(1)}, r"features.0.weight is of another shape, \(1,\) in place of \(64, 3, 3, 3\)"),
        ({"conv1.weight": torch.zeros(1)}, r"features.0.weight \(64, 3, 3, 3\) is missing"),
        ([1, 2], r"features.0.weight \(64, 3, 3, 3\) is missing"),
    ],
)
def test_another_networks_file_is_refused(tmp_path: Path, content: object, said: str) -> None:
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(PerceptualWeightsError, match=f"other.pth: {said}: not VGG16; get https"):
        load_vgg16(tmp_path / "other.pth")


def test_what_is_no_file_of_weights_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(PerceptualWeightsError, match="not a file of weights"):
        load_vgg16(tmp_path / "text.pth")


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), MemoryError()])
def test_what_says_nothing_of_the_file_is_not_blamed_on_it(
    error: Exception, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(torch, "load", broken)
    with pytest.raises(type(error)):
        load_vgg16(weights)


def test_the_box_is_the_mattes_with_a_margin() -> None:
    matte = torch.zeros(64, 64)
    matte[20:40, 30:60] = 1
    assert matte_box(matte) == (22, 12, 64, 48)
    assert matte_box(torch.zeros(64, 64)) is None
