"""Which frames the evaluation looks at, where it renders them, and how it judges them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from avatar_models.cameras import Camera, project
from avatar_models.gaussians import Gaussians
from avatar_models.rotations import axis_angle_to_matrix
from avatar_models.splatting.cuda import NO_NVCC
from pipelines import devices, evaluation
from pipelines.devices import best_device, drawing_device, reserved_device
from pipelines.evaluation import (
    MAX_PSNR,
    MEASURES,
    driven_camera,
    evenly,
    first,
    measured,
    nearest_frames,
    render_aligned,
    render_shots,
)
from pipelines.fanout import MachineUnfit
from pipelines.subject import Shots
from tests.avatar_models.npga.made import avatar

CLIPS = [("a", np.arange(10)), ("b", np.arange(100, 130)), ("c", np.arange(5))]


def test_the_first_frames_are_consecutive() -> None:
    assert [rows.tolist() for _, rows in first(CLIPS, 12)] == [[0, 1, 2, 3], [100, 101, 102, 103], [0, 1, 2, 3]]
    assert [len(rows) for _, rows in first(CLIPS, 22)] == [8, 9, 5]
    assert [len(rows) for _, rows in first(CLIPS, 100)] == [10, 30, 5]


def test_frames_spread_over_all_segments_reach_both_ends() -> None:
    found = dict(evenly(CLIPS, 9))
    assert sum(len(rows) for rows in found.values()) == 9
    assert found["a"][0] == 0 and found["c"][-1] == 4 and len(found["b"]) == 6
    assert [rows.tolist() for _, rows in evenly(CLIPS, 1000)] == [rows.tolist() for _, rows in CLIPS]


def test_what_is_not_judged_does_not_count() -> None:
    judged = np.ones((2, 24, 24), np.bool_)
    judged[:, 16:] = False
    wanted = torch.rand(2, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    made = wanted.clone()
    made[:, :, 16:] = 0.0
    mattes = np.full((2, 24, 24), 255, np.uint8)
    found = measured(made, wanted, mattes, judged)
    assert set(found) == set(MEASURES)
    assert (found["psnr"] == MAX_PSNR).all() and np.allclose(found["ssim"], 1.0)
    made[:, :, 3, 3] = wanted[:, :, 3, 3] + 0.5
    by_hand = -10 * np.log10(0.25 / (16 * 24))  # a mean over the judged pixels, not over the picture's
    assert np.allclose(measured(made, wanted, mattes, judged)["psnr"], by_hand, atol=1e-4)


def test_an_empty_matte_is_judged_as_the_whole_picture() -> None:
    wanted, made = torch.zeros(1, 3, 24, 24), torch.full((1, 3, 24, 24), 0.1)
    found = measured(made, wanted, np.zeros((1, 24, 24), np.uint8), np.ones((1, 24, 24), np.bool_))
    assert np.allclose(found["matte_psnr"], 20.0, atol=1e-4)


def cameras(turns: Sequence[float], distance: float = 0.6, size: int = 32) -> Camera:
    """Views of the head turned by so many radians about its vertical axis."""
    viewmat = torch.eye(4).repeat(len(turns), 1, 1)
    viewmat[:, :3, :3] = axis_angle_to_matrix(torch.tensor([[0.0, turn, 0.0] for turn in turns]))
    viewmat[:, 2, 3] = distance
    K = torch.tensor([[40.0, 0, size / 2], [0, 40.0, size / 2], [0, 0, 1]]).repeat(len(turns), 1, 1)
    return Camera(K, viewmat, size, size)


def shots(turns: Sequence[float], conditions: Sequence[Sequence[float]]) -> Shots:
    """Black frames in these poses and conditions."""
    count, size = len(turns), 32
    black, nothing = np.zeros((count, size, size, 3), np.uint8), np.zeros((count, size, size), np.uint8)
    all_of_it = np.ones((count, size, size), np.bool_)
    names, frames = ["a"] * count, np.arange(count)
    return Shots(black, nothing, all_of_it, all_of_it, cameras(turns), torch.tensor(conditions), names, frames)


def test_the_nearest_frame_has_the_pose_and_the_expression() -> None:
    known = shots([0.0, 0.0, 0.5, 0.5], [[0.0], [1.0], [0.0], [1.0]])
    wanted = shots([0.45, 0.02, 0.0], [[0.9], [0.1], [0.8]])
    assert nearest_frames(wanted, known).tolist() == [3, 0, 1]


def test_a_value_counts_by_its_spread_in_training() -> None:
    known = shots([0.0, 0.0, 0.0], [[0.0, 100.0], [0.1, 0.0], [0.0, -100.0]])
    wanted = shots([0.0], [[0.1, 70.0]])  # the first value is exact, and goes by hundredths; the second is just like frame 0's
    assert nearest_frames(wanted, known).tolist() == [1]


def test_a_driven_camera_has_the_targets_place_and_the_drivers_rotation() -> None:
    own = cameras([0.3], distance=0.6)
    facts = {"K": own.K[0].tolist(), "viewmat": own.viewmat[0].tolist(), "width": 32, "height": 32}
    driver = cameras([0.0, -0.4], distance=0.9)
    found = driven_camera(facts, driver, 64)
    assert (len(found), found.width, found.height) == (2, 64, 64)
    assert torch.equal(found.viewmat[:, :3, :3], driver.viewmat[:, :3, :3])
    assert torch.allclose(found.viewmat[:, :3, 3], torch.tensor([0.0, 0.0, 0.6]))
    # The head's origin stays in the picture's middle, and a point beside it is seen at the target's scale, twice the size.
    seen = project(torch.tensor([[[0.0, 0.0, 0.0], [0.03, 0.0, 0.0]]]), found)
    assert torch.allclose(seen[0], torch.tensor([[32.0, 32.0], [32.0 + 2 * 40.0 * 0.03 / 0.6, 32.0]]))


def test_workers_take_the_gpu_that_they_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    for there, device in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert best_device() == device


def test_a_gpu_without_gsplats_code_stops_a_worker_and_is_done_without_by_a_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for why, device in (("", "cuda"), (NO_NVCC, "cpu")):
        monkeypatch.setattr(devices, "why_no_cuda_code", lambda why=why: why)
        assert drawing_device() == device
    assert "drawing on the CPU, since gsplat cannot draw on this GPU: the CUDA toolkit (nvcc)" in capsys.readouterr().out
    with pytest.raises(MachineUnfit, match=r"nvcc\) of torch's version is not there; mend that .* num_gpus: 0"):
        reserved_device()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert drawing_device() == reserved_device() == "cpu"


class Nobody:
    """An avatar that is never looked at; it keeps the conditions that it is asked for."""

    condition_size = 1

    def __init__(self, seen: list[torch.Tensor]) -> None:
        self.seen = seen

    def gaussians(self, condition: torch.Tensor) -> Gaussians:
        raise NotImplementedError

    def each(self, conditions: torch.Tensor) -> Iterator[Gaussians]:
        self.seen.append(conditions)
        return iter(())

    def draw(self, gaussians: Gaussians, camera: Camera, background: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError


def test_all_that_meets_an_avatar_lies_on_its_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """`meta` stands in for a GPU: a tensor forgotten on the CPU is found, and no number is needed."""
    seen: list[torch.Tensor] = []

    def align(gaussians: Any, draw: Any, camera: Camera, targets: torch.Tensor, judged: torch.Tensor, *more: Any) -> Camera:
        seen.extend([camera.K, camera.viewmat, targets, judged, more[0]])
        return camera

    def render(avatar: Any, camera: Camera, conditions: torch.Tensor, background: torch.Tensor) -> torch.Tensor:
        seen.extend([camera.K, camera.viewmat, conditions, background])
        return torch.zeros(len(camera), 3, 32, 32)

    monkeypatch.setattr(evaluation, "align", align)
    monkeypatch.setattr(evaluation, "render", render)
    held_out = shots([0.0, 0.1], [[0.0], [1.0]])
    for made in (
        lambda: render_shots(Nobody(seen), held_out.camera, held_out.conditions, 1.0, "meta"),
        lambda: render_aligned(Nobody(seen), held_out, 1.0, 3, "meta"),
    ):
        seen.clear()
        assert made().device.type == "cpu" and {tensor.device.type for tensor in seen} == {"meta"}


def test_an_avatar_with_a_network_on_the_picture_is_aligned_as_it_draws_itself() -> None:
    """Its Gaussians carry more channels than a colour."""
    held_out = shots([0.0], [[0.0] * 13])
    made = render_aligned(avatar(), held_out, 1.0, 2)
    assert made.shape == (1, 3, 32, 32) and bool(made.isfinite().all())


def test_on_a_gpu_it_is_aligned_the_same(gpu: str) -> None:
    held_out = shots([0.0, 0.1], [[0.0] * 13] * 2)
    made = render_aligned(avatar().to(gpu), held_out, 1.0, 2, gpu)
    torch.testing.assert_close(made, render_aligned(avatar(), held_out, 1.0, 2), atol=1e-3, rtol=0)
