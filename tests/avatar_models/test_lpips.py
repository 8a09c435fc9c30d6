"""LPIPS against the formula in numpy, closed cases, and its files."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from avatar_models.lpips import Lpips, load_lpips
from avatar_models.perceptual import STAGES, PerceptualWeightsError, Vgg16Features

Array = NDArray[np.float64]
SMALL = ((3, 4), (5, 5), (6, 6, 6), (7, 7, 7), (8, 8, 8))
"""VGG16's layout with few channels."""


def small_lpips(seed: int = 0) -> Lpips:
    torch.manual_seed(seed)
    features = Vgg16Features(SMALL).double()
    for own in features.parameters():
        torch.nn.init.normal_(own, std=0.3)
    return Lpips(features, [torch.rand(widths[-1], dtype=torch.float64) for widths in SMALL])


def pictures(*shape: int, seed: int = 1) -> Tensor:
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def convolved(x: Array, weight: Array, bias: Array) -> Array:
    """(C, H, W) -> (D, H, W): 3 x 3, zeros beyond the border."""
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(x, ((0, 0), (1, 1), (1, 1))), (3, 3), axis=(1, 2))
    return np.einsum("chwij,dcij->dhw", windows, weight) + bias[:, None, None]


def reference_features(x: Array, convolutions: Sequence[tuple[Array, Array]]) -> list[Array]:
    """x (3, H, W) in [-1, 1], scaled as the published code's ScalingLayer does, through VGG's stages."""
    x = (x - np.array([-0.030, -0.088, -0.188])[:, None, None]) / np.array([0.458, 0.448, 0.450])[:, None, None]
    found, left = [], list(convolutions)
    for stage, widths in enumerate(SMALL):
        if stage:
            c, h, w = x.shape
            x = x[:, : h // 2 * 2, : w // 2 * 2].reshape(c, h // 2, 2, w // 2, 2).max((2, 4))
        for _ in widths:
            x = np.maximum(convolved(x, *left.pop(0)), 0)
        found.append(x)
    return found


def reference(image: Array, target: Array, model: Lpips) -> float:
    """Zhang et al. 2018, equation 1, of images (3, H, W) in [0, 1]."""
    state = [own.numpy() for own in model.features.state_dict().values()]
    convolutions = list(zip(state[::2], state[1::2], strict=True))
    distance = 0.0
    pairs = zip(*(reference_features(2 * x - 1, convolutions) for x in (image, target)), strict=True)
    for (a, b), weights in zip(pairs, model.weights, strict=True):
        a, b = (x / (np.sqrt((x**2).sum(0)) + 1e-10) for x in (a, b))
        distance += float((weights.numpy()[:, None, None] * (a - b) ** 2).sum(0).mean())
    return distance


def test_it_is_the_formula() -> None:
    model, images, targets = small_lpips(), pictures(2, 3, 35, 32), pictures(2, 3, 35, 32, seed=2)
    found = model(images, targets)
    wanted = [reference(a.numpy(), b.numpy(), model) for a, b in zip(images, targets, strict=True)]
    # the mean and spread of colours are kept as float32
    assert found.shape == (2,) and np.allclose(found, wanted, rtol=1e-6, atol=0) and min(wanted) > 0.01


def test_equal_pictures_are_at_0_and_either_may_come_first() -> None:
    model, a, b = small_lpips(), pictures(2, 3, 24, 24), pictures(2, 3, 24, 24, seed=2)
    assert (model(a, a) == 0).all() and torch.allclose(model(a, b), model(b, a), rtol=1e-12) and (model(a, b) > 0).all()


def test_a_target_may_be_shared() -> None:
    model, images, target = small_lpips(), pictures(3, 3, 24, 24), pictures(1, 3, 24, 24, seed=2)
    assert torch.allclose(model(images, target), model(images, target.expand(3, -1, -1, -1)), rtol=1e-12)


def test_one_stage_of_known_features() -> None:
    """One convolution that copies the colours: of black nothing passes the ReLU, of red and blue one channel each."""
    features = Vgg16Features(((3,),)).double()
    weight = torch.zeros(3, 3, 3, 3, dtype=torch.float64)
    weight[range(3), range(3), 1, 1] = 1
    features.load_state_dict({"features.0.weight": weight, "features.0.bias": torch.zeros(3)})
    model = Lpips(features, [torch.tensor([0.5, 0.0, 0.25], dtype=torch.float64)])
    black, red, blue = (torch.zeros(1, 3, 16, 16, dtype=torch.float64) for _ in range(3))
    red[:, 0], blue[:, 2] = 1.0, 1.0
    assert model(black, black) == 0
    assert torch.allclose(model(red, blue), torch.tensor([0.75], dtype=torch.float64))
    assert torch.allclose(model(red, black), torch.tensor([0.5], dtype=torch.float64))


def test_a_picture_too_small_for_five_stages_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(24, 15\) pixels: it needs 16 each way; raise the resolution"):
        small_lpips()(pictures(1, 3, 24, 15), pictures(1, 3, 24, 15))


@pytest.fixture(scope="module")
def vgg16(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("vgg") / "own.pth"
    torch.save(Vgg16Features(STAGES).state_dict(), path)
    return path


def linear() -> dict[str, Tensor]:
    return {f"lin{k}.model.1.weight": torch.rand(1, widths[-1], 1, 1) for k, widths in enumerate(STAGES)}


def test_the_published_layout_is_read(vgg16: Path, tmp_path: Path) -> None:
    weights = linear()
    torch.save(weights, tmp_path / "own.pth")
    model = load_lpips(vgg16, tmp_path / "own.pth")
    assert model.features.taps == [3, 8, 15, 22, 29]  # relu1_2 ... relu5_3 in torchvision's numbering
    assert all(torch.equal(own, given.flatten()) for own, given in zip(model.weights, weights.values(), strict=True))
    image = torch.rand(1, 3, 16, 20)
    assert model(image, image) == 0 and model(image, 1 - image) > 0


def test_a_damaged_file_is_known_by_its_name(vgg16: Path, tmp_path: Path) -> None:
    torch.save(linear(), tmp_path / "own.pth")
    digest = hashlib.sha256((tmp_path / "own.pth").read_bytes()).hexdigest()
    right, wrong = tmp_path / f"vgg-{digest[:8]}.pth", tmp_path / "vgg-a78928a0.pth"
    for path in (right, wrong):
        path.write_bytes((tmp_path / "own.pth").read_bytes())
    load_lpips(vgg16, right)
    with pytest.raises(PerceptualWeightsError, match="a78928a0: damaged; get it again from https://raw.githubusercontent.com"):
        load_lpips(vgg16, wrong)


@pytest.mark.parametrize(
    "change, said",
    [
        ({"lin1.model.1.weight": torch.rand(1, 192, 1, 1)}, r"of another shape, \(1, 192, 1, 1\) in place of \(1, 128, 1, 1\)"),
        ({"lin1.model.1.weight": None}, r"\(1, 128, 1, 1\) is missing"),
        ({"lin1.model.1.weight": torch.full((1, 128, 1, 1), -0.5)}, r"has a weight of -0.5, LPIPS's are not negative"),
        ({"lin1.model.1.weight": torch.full((1, 128, 1, 1), torch.nan)}, r"has a weight of nan"),
    ],
)
def test_other_weights_are_refused(vgg16: Path, tmp_path: Path, change: dict[str, Tensor | None], said: str) -> None:
    torch.save({**linear(), **change}, tmp_path / "alex.pth")
    with pytest.raises(PerceptualWeightsError, match=rf"alex.pth: lin1.model.1.weight .*{said}.*get https://raw"):
        load_lpips(vgg16, tmp_path / "alex.pth")


def test_files_in_each_others_place_are_refused(vgg16: Path, tmp_path: Path) -> None:
    torch.save(linear(), tmp_path / "own.pth")
    with pytest.raises(PerceptualWeightsError, match=r"lin0.model.1.weight \(1, 64, 1, 1\) is missing: not LPIPS"):
        load_lpips(tmp_path / "own.pth", vgg16)
