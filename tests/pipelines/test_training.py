"""Training learns, and goes on from a checkpoint as if it had never stopped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from avatar_models.avatar import track_condition
from avatar_models.cameras import Camera, resized
from avatar_models.heads.procedural import procedural_head
from avatar_models.people import camera_for, film, make_person, perform, viewmats
from pipelines.params import TrainHeadgas
from pipelines.subject import Shots
from pipelines.training import Training, frame_of_step

SIDE, FRAMES = 48, 6
OPTIONS = TrainHeadgas(steps=50, num_gaussians=300, feature_dim=4, hidden_dim=8, resolution=SIDE)


@pytest.fixture(scope="module")
def shots() -> Shots:
    person, performance = make_person(3), perform(3, FRAMES, 8.0)
    K, distance = camera_for(96)
    views = viewmats(performance, distance)
    images = np.stack([film(person, performance, k, 96, views[k], K)[::2, ::2] for k in range(FRAMES)])
    wide = Camera(torch.tensor(K).repeat(FRAMES, 1, 1).float(), torch.tensor(views).float(), 96, 96)
    conditions = track_condition(performance.expression, performance.jaw, performance.eyes)
    mattes = np.full((FRAMES, SIDE, SIDE), 255, np.uint8)
    return Shots(images, mattes, resized(wide, SIDE, SIDE), torch.from_numpy(conditions), ["clip"] * FRAMES, np.arange(FRAMES))


def training(shots: Shots) -> Training:
    return Training(OPTIONS, shots, procedural_head(), torch.from_numpy(make_person(3).identity), "cpu")


def test_a_run_that_was_cut_ends_with_the_same_bits(shots: Shots, tmp_path: Path) -> None:
    whole = training(shots)
    before = whole.training_psnr()
    whole.run(tmp_path / "whole.pt", checkpoint_every=1000)
    assert whole.training_psnr() > before + 1.0 and [point["step"] for point in whole.curve] == [25, 50]

    cut = training(shots)
    for _ in range(25):
        cut.one_step()
    cut.curve = whole.curve[:1]
    cut.save(tmp_path / "cut.pt")
    for _ in range(5):  # lost with the process
        cut.one_step()
    resumed = training(shots)
    resumed.run(tmp_path / "cut.pt", checkpoint_every=1000)
    assert resumed.step == 50 and resumed.curve == whole.curve
    for name, tensor in whole.model.tensors().items():
        assert torch.equal(tensor, resumed.model.tensors()[name]), name


def test_a_checkpoint_that_cannot_be_read_is_passed_over(
    shots: Shots, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(b"half of it")
    run = training(shots)
    run.load(path)
    assert run.step == 0 and "training starts over" in capsys.readouterr().out


def test_every_epoch_sees_every_frame_once_in_an_order_of_its_own() -> None:
    epochs = [[frame_of_step(9 * epoch + k, 9, seed=4) for k in range(9)] for epoch in range(3)]
    assert all(sorted(epoch) == list(range(9)) for epoch in epochs) and epochs[0] != epochs[1]


def test_a_run_with_stops_ends_with_the_same_bits(shots: Shots, tmp_path: Path) -> None:
    whole, stopped = training(shots), training(shots)
    whole.run(tmp_path / "whole.pt", checkpoint_every=25)
    stopped.run(tmp_path / "stopped.pt", checkpoint_every=25, until=25)
    stopped.training_psnr()  # somebody looks
    stopped.run(tmp_path / "stopped.pt", checkpoint_every=25)
    assert stopped.curve == whole.curve
    for name, tensor in whole.model.tensors().items():
        assert torch.equal(tensor, stopped.model.tensors()[name]), name
