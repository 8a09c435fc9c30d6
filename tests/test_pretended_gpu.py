"""The GPU that tests pretend refuses what a real one does."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from tests.pretended_gpu import MixedDevices, PretendedGpu

REFUSED: dict[str, Callable[[torch.Tensor, torch.Tensor], object]] = {
    "a sum": lambda here, there: here + there,
    "a list": lambda here, there: torch.cat([here, there]),
    "a list of numbers": lambda here, there: torch.stack([here.sum(), there.sum()]),
    "a layer": lambda here, there: torch.nn.Linear(3, 2)(there),
    "a CPU's tensor, a GPU's index": lambda here, there: here[there.long()],
    "a GPU's part, a CPU's mask and value": lambda here, there: torch.where(here > 0, there, 0.0),
    "numpy": lambda here, there: there.numpy(),
    "an array": lambda here, there: np.asarray(there),
    "a CPU's generator": lambda here, there: torch.rand(3, generator=torch.Generator(), device="cuda"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_mixes_devices_is_refused(gpu: str, what: str) -> None:
    with pytest.raises(MixedDevices):
        REFUSED[what](torch.ones(3), torch.ones(3, device=gpu))


def test_what_is_of_one_device_is_computed_and_stays_there(gpu: str) -> None:
    here, there = torch.arange(3.0), torch.ones(3, device=gpu)
    assert there.is_cuda and there.device.type == "cuda" and not here.is_cuda
    total = there + here.to(gpu) * 2 + torch.tensor(1.0)  # a number may come from the CPU
    assert total.is_cuda and total.cpu().numpy().tolist() == [2.0, 4.0, 6.0] and not total.cpu().is_cuda
    assert torch.zeros_like(total).is_cuda and total[torch.tensor([0, 2])].is_cuda and total.new_zeros(2).is_cuda
    assert not here.to(gpu).to("cpu").is_cuda and here.to(total).is_cuda and not here.is_cuda


def test_it_is_known_for_what_the_cpu_waits() -> None:
    with PretendedGpu() as gpu:
        there = torch.ones(3, device="cuda")
        total = (there * 2).sum()
        assert gpu.waits == []
        float(total), there[there > 0], there.cpu()
        assert gpu.waits == ["__float__", "__getitem__", "cpu"]


def test_a_network_that_was_sent_there_learns_there(gpu: str) -> None:
    layer = torch.nn.Linear(3, 2).to(gpu)
    optimizer, before = torch.optim.Adam(layer.parameters()), layer.weight.detach().clone()
    layer(torch.ones(1, 3, device=gpu)).sum().backward()
    assert layer.weight.grad is not None and layer.weight.grad.is_cuda
    optimizer.step()
    assert layer.weight.is_cuda and not torch.equal(layer.weight, before)
