"""The fused loss against the same terms in float64 torch, whose SSIM the metrics' tests hold against scikit-image."""

from __future__ import annotations

from math import nan

import pytest
import torch

from avatar_models.losses import first_not_finite, numbers_of, photometric


def pair(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    image = torch.rand(*shape, generator=g)
    return image, (image + 0.1 * torch.randn(*shape, generator=g)).clamp(0, 1)


@pytest.mark.parametrize("shape", [(1, 3, 64, 64), (2, 3, 41, 53), (1, 1, 5, 100), (1, 3, 7, 3)])
def test_values_and_gradient_are_those_of_float64(shape: tuple[int, ...]) -> None:
    image, target = pair(*shape)
    fast, exact = image.clone().requires_grad_(), image.double().requires_grad_()
    found, wanted = photometric(fast, target, 0.8, 0.2), photometric(exact, target.double(), 0.8, 0.2)
    for name, value in wanted.items():
        assert float(found[name].detach()) == pytest.approx(float(value.detach()), rel=2e-6, abs=3e-7), name
    (2 * found["loss"]).backward()
    (2 * wanted["loss"]).backward()
    assert (fast.grad.double() - exact.grad).norm() < 2e-6 * exact.grad.norm()  # type: ignore[union-attr, operator]


def test_threads_do_not_change_a_bit() -> None:
    image, target = pair(1, 3, 70, 90)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            leaf = image.clone().requires_grad_()
            loss = photometric(leaf, target, 0.8, 0.2)["loss"]
            loss.backward()
            results.append((loss.detach(), leaf.grad))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(results[0][0], results[1][0]) and torch.equal(results[0][1], results[1][1])  # type: ignore[arg-type]


def test_equal_images_lose_nothing_and_a_bad_term_is_named() -> None:
    image, target = pair(1, 3, 20, 20)
    assert float(photometric(image, image, 0.8, 0.2)["loss"]) == pytest.approx(0.0, abs=1e-6)
    terms = photometric(image, target, 0.8, 0.2)
    numbers = numbers_of(terms)
    assert numbers == {name: float(value) for name, value in terms.items()} and first_not_finite(numbers) is None
    assert first_not_finite({**numbers, "loss": nan, "dssim": nan}) == "dssim"
    assert first_not_finite({**numbers, "loss": nan}) == "loss"


def test_images_of_other_shapes_are_refused_and_other_types_are_taken() -> None:
    image, target = pair(1, 3, 20, 20)
    with pytest.raises(ValueError, match=r"\(1, 3, 20, 20\) and \(1, 1, 20, 20\)"):
        photometric(image, target[:, :1], 0.8, 0.2)
    found, wanted = photometric(image, target.half(), 0.8, 0.2), photometric(image, target.half().float(), 0.8, 0.2)
    assert torch.equal(found["loss"], wanted["loss"])
