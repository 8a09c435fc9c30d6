"""A frozen avatar shows what its model shows: judged by the module itself in float64."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from avatar_models.avatar import avatar_files, load_avatar, render
from avatar_models.cameras import Camera
from avatar_models.gaussians import Gaussians
from avatar_models.headgas import VARIANTS, FrozenHeadGas, HeadGas, HeadGasSizes
from avatar_models.headgas.inference import InKernel, InTorch, fold
from avatar_models.splatting import splat

ODD = HeadGasSizes(num_gaussians=603, condition_size=13, feature_dim=5, hidden_dim=11, position_frequencies=2)
"""No size is a multiple of anything that the kernel does at a time."""


def trained(sizes: HeadGasSizes = ODD, degree: int = 3, variant: str = "full") -> HeadGas:
    """A head-sized cloud of Gaussians whose colours, opacities and places follow the expression."""
    g = torch.Generator().manual_seed(3)
    model = HeadGas(HeadGasSizes(**{**vars(sizes), "sh_degree": degree, "variant": variant}))
    n, e = sizes.num_gaussians, sizes.condition_size
    model.initialise(torch.rand(n, 3, generator=g) * 0.2, torch.rand(n, 3, generator=g), torch.rand(9, e, generator=g))
    if variant == "rigged":
        model.ride_on(0.01 * torch.rand(e, n, 3, generator=g))
    with torch.no_grad():
        for parameter in (model.F, model.f0, *model.phi.parameters()):
            parameter.normal_(0, 0.2, generator=g)
        model.base += 0.2 * torch.randn(model.base.shape, generator=g)
    return model.eval()


def conditions(count: int, model: HeadGas) -> Tensor:
    return torch.rand(count, model.condition_size, generator=torch.Generator().manual_seed(4))


def cameras(count: int, size: int = 48) -> Camera:
    """Views from a little further to the side each."""
    viewmat = torch.eye(4).repeat(count, 1, 1)
    viewmat[:, 0, 3] = torch.linspace(-0.12, -0.08, count)
    viewmat[:, 1, 3], viewmat[:, 2, 3] = -0.1, 0.6
    K = torch.tensor([[1.5 * size, 0, size / 2], [0, 1.5 * size, size / 2], [0, 0, 1]]).repeat(count, 1, 1)
    return Camera(K, viewmat, size, size)


def exactly(model: HeadGas, condition: Tensor) -> Gaussians:
    """What the module in float64 says."""
    double = HeadGas.from_tensors(model.tensors(), model.sizes_as_dict()).double()
    double.sh_shown = model.sh_shown
    return double.gaussians(condition.double())


@torch.no_grad()
@pytest.mark.parametrize("degree", range(4))
@pytest.mark.parametrize("variant", VARIANTS)
def test_pictures_are_the_modules(variant: str, degree: int) -> None:
    model = trained(degree=degree, variant=variant)
    wanted, camera = conditions(3, model), cameras(3)
    found = render(FrozenHeadGas(model), camera, wanted, torch.ones(3))
    assert found.std() > 0.1  # something is seen
    for index, image in enumerate(found):
        exact = splat(exactly(model, wanted[index]), camera[index : index + 1], torch.ones(3)).image
        assert torch.allclose(image, exact[0].float().clamp(0, 1), rtol=0, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("way", [InTorch, InKernel])
@pytest.mark.parametrize("degree", range(4))
@pytest.mark.parametrize("count", [1, 8, 11])  # expressions: fewer than go together, as many, more
def test_colours_and_opacities_are_the_modules(count: int, degree: int, way: type) -> None:
    model = trained(degree=degree)
    colors, opacities = way(fold(model))(model.weights(conditions(count, model)))
    for index, condition in enumerate(conditions(count, model)):
        exact = exactly(model, condition)
        assert torch.allclose(colors[index].double(), exact.colors.flatten(1), rtol=0, atol=2e-6)
        assert torch.allclose(opacities[index].double(), exact.opacities, rtol=0, atol=1e-6)


def test_other_sizes_of_the_mlp_and_few_gaussians() -> None:
    for count, features, hidden in ((2, 1, 1), (64, 32, 64), (130, 48, 20)):
        model = trained(HeadGasSizes(count, 3, features, hidden, position_frequencies=1), degree=1)
        condition = conditions(1, model)[0]
        found, exact = FrozenHeadGas(model).gaussians(condition), exactly(model, condition)
        assert torch.allclose(found.colors.double(), exact.colors, rtol=0, atol=5e-6)
        assert torch.allclose(found.opacities.double(), exact.opacities, rtol=0, atol=5e-6)


def test_fewer_harmonics_may_be_shown_than_there_are() -> None:
    model = trained(degree=2)
    model.sh_shown = 1
    condition = conditions(1, model)[0]
    found = FrozenHeadGas(model).gaussians(condition)
    assert torch.allclose(found.colors.double(), exactly(model, condition).colors, rtol=0, atol=2e-6)


def test_a_condition_gives_the_same_bits_in_any_company_and_for_any_number_of_threads() -> None:
    model, before = trained(), torch.get_num_threads()
    wanted = conditions(13, model)
    alone = [FrozenHeadGas(model).gaussians(condition) for condition in wanted]
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            for one, other in zip(alone, FrozenHeadGas(model).each(wanted), strict=True):
                assert torch.equal(one.colors, other.colors)
                assert torch.equal(one.opacities, other.opacities)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("variant", ["full", "rigged", "change_all"])
def test_views_of_one_expression_share_its_gaussians(variant: str) -> None:
    model = trained(variant=variant)
    first, second, third = conditions(3, model)
    avatar = FrozenHeadGas(model)
    made = list(avatar.each(torch.stack([first, first, second, first, third, third])))
    assert [next(k for k, other in enumerate(made) if other is one) for one in made] == [0, 0, 2, 3, 4, 4]
    assert avatar.gaussians(third.clone()) is made[-1]
    assert avatar.gaussians(second) is not made[2]  # only the last one is kept
    assert torch.equal(avatar.gaussians(second).colors, made[2].colors)


@torch.no_grad()
def test_several_views_are_the_pictures_of_each() -> None:
    model = trained()
    camera, condition = cameras(3), conditions(1, model)
    together = render(FrozenHeadGas(model), camera, condition.expand(3, -1), torch.ones(3))
    for index in range(3):
        alone = render(FrozenHeadGas(model), camera[index : index + 1], condition, torch.ones(3))
        assert torch.equal(together[index], alone[0])


@torch.no_grad()
def test_a_value_that_is_no_number_is_named() -> None:
    model = trained()
    condition = conditions(1, model)
    condition[0, 2] = torch.nan
    with pytest.raises(ValueError, match="of Gaussian 0 are not finite"):
        render(FrozenHeadGas(model), cameras(1), condition, torch.ones(3))


def test_a_loaded_avatar_is_frozen_and_shows_what_was_saved(tmp_path: Path) -> None:
    model = trained()
    for name, data in avatar_files("headgas", model.tensors(), {"sizes": model.sizes_as_dict()}).items():
        (tmp_path / name).write_bytes(data)
    loaded, _ = load_avatar(tmp_path)
    condition = conditions(1, model)[0]
    assert isinstance(loaded, FrozenHeadGas)
    assert torch.equal(loaded.gaussians(condition).colors, FrozenHeadGas(model).gaussians(condition).colors)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_cuda_torch_does_the_same() -> None:
    model = trained()
    condition = conditions(1, model)[0]
    on_cpu = FrozenHeadGas(model).gaussians(condition)
    found = FrozenHeadGas(trained().to("cuda")).gaussians(condition.cuda())
    assert torch.allclose(found.colors.cpu(), on_cpu.colors, rtol=0, atol=1e-4)  # TF32 may be on
    assert torch.allclose(found.opacities.cpu(), on_cpu.opacities, rtol=0, atol=1e-4)
