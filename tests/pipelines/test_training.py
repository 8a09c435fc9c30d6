"""Training learns, and goes on from a checkpoint as if it had never stopped, whatever became of the set of Gaussians."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from avatar_models.alignment import twisted
from avatar_models.blending import RankOneAdam
from avatar_models.heads.procedural import procedural_head
from avatar_models.people import make_person
from avatar_models.perceptual import Vgg16Features
from bench.killed_training import made_up_shots
from pipelines.news import News
from pipelines.params import Density, TrainHeadgas
from pipelines.subject import Shots
from pipelines.training import OutOfMemory, Training, TrainingDiverged, teller
from tests.pretended_gpu import mark, tensors_in

SIDE, FRAMES = 48, 6
DENSITY = Density(start=0.2, stop=0.8, every=10, gradient=1e-5, max_gaussians=400, decay=0.99)
OPTIONS = TrainHeadgas(
    steps=75, num_gaussians=300, feature_dim=4, hidden_dim=8, resolution=SIDE, sh_warmup=0.3, probes=2, density=DENSITY
)


@pytest.fixture(scope="module")
def shots() -> Shots:
    return made_up_shots(3, FRAMES, SIDE)


def training(shots: Shots, device: str = "cpu", **changes: object) -> Training:
    options = OPTIONS.model_copy(update=changes)
    return Training(options, shots, procedural_head(), torch.from_numpy(make_person(3).identity), device, held_out=shots)


@pytest.fixture(scope="module")
def whole(shots: Shots, tmp_path_factory: pytest.TempPathFactory) -> Training:
    run = training(shots)
    run.run(tmp_path_factory.mktemp("whole") / "none.pt", checkpoint_every=1000)
    return run


def test_it_learns_and_its_gaussians_multiply(shots: Shots, whole: Training) -> None:
    assert whole.training_psnr() > training(shots).training_psnr() + 1.0
    assert [point["step"] for point in whole.curve] == [25, 50, 75]
    counts = [point["gaussians"] for point in whole.curve]
    assert OPTIONS.num_gaussians < counts[1] <= counts[2] <= OPTIONS.density.max_gaussians
    assert [point["step"] for point in whole.curve if "held_out_psnr" in point] == [50, 75] and len(whole.probes) == 2


def test_on_a_gpu_it_learns_the_same(
    shots: Shots, whole: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpu: str
) -> None:
    step = RankOneAdam.step

    def marked(basis: RankOneAdam, ahead: torch.Tensor | None = None) -> None:
        for factor in tensors_in(basis._factors):  # of a backward pass
            mark(factor, True)
        step(basis, ahead)

    monkeypatch.setattr(RankOneAdam, "step", marked)
    there = training(shots, device=gpu)
    there.run(tmp_path / "checkpoint.pt", checkpoint_every=50)
    assert all(tensor.is_cuda for tensor in there.model.tensors().values())
    assert there.curve[-1]["held_out_psnr"] == pytest.approx(whole.curve[-1]["held_out_psnr"], abs=0.3)


@pytest.mark.parametrize("saved", [7, 22, 30, 31, 48, 60, 74])
def test_a_run_that_was_cut_ends_with_the_same_bits(shots: Shots, whole: Training, tmp_path: Path, saved: int) -> None:
    """Before, at, between and after the steps at which the set of Gaussians changes (20, 30, ... 60)."""
    cut = training(shots)
    for _ in range(saved):
        cut.one_step()
    cut.save(tmp_path / "cut.pt")
    for _ in range(5):  # lost with the process
        cut.one_step()
    resumed = training(shots)
    resumed.load(tmp_path / "cut.pt")
    while resumed.step < OPTIONS.steps:
        resumed.one_step()
    for name, tensor in whole.model.tensors().items():
        assert torch.equal(tensor, resumed.model.tensors()[name]), name
    assert whole.poses.twists.any() and torch.equal(whole.poses.twists, resumed.poses.twists)


def test_a_run_that_was_killed_goes_on_from_its_file_with_its_curve_and_pictures(
    shots: Shots, whole: Training, tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint.pt"
    killed = training(shots)
    killed.save = lambda target: (Training.save(killed, target), raise_after_save())  # type: ignore[assignment, method-assign]
    with pytest.raises(KeyboardInterrupt):
        killed.run(path, checkpoint_every=50)
    resumed = training(shots)
    resumed.run(path, checkpoint_every=1000)
    assert resumed.curve == whole.curve and resumed.progress_picture() == whole.progress_picture()


def test_it_tells_its_curve_and_pictures_while_it_goes_on(shots: Shots, whole: Training, tmp_path: Path) -> None:
    news, told = News(), []
    run = training(shots)
    tell = teller(run, news)
    run.run(tmp_path / "checkpoint.pt", checkpoint_every=50, until=50, tell=lambda: (tell(), told.append(news.take("ada")))[0])
    assert [[point["step"] for point in found.points] for found in told] == [[25], [50]]
    assert told[0].said == f"step 25 of 75, loss {run.curve[0]['loss']:.3g}"
    assert [list(found.files) for found in told] == [[], ["progress.png"]]  # a held-out frame is rendered at step 50
    resumed = training(shots)
    resumed.run(tmp_path / "checkpoint.pt", checkpoint_every=1000, tell=teller(resumed, news))
    rest = news.take("ada")
    assert rest is not None and rest.points == whole.curve  # what was before the checkpoint too
    assert rest.files["progress.png"] == whole.progress_picture() and news.take("ada") is None


def raise_after_save() -> None:
    raise KeyboardInterrupt


def test_noise_and_random_backgrounds_are_those_of_the_step(shots: Shots) -> None:
    first, second = (training(shots, background="random", condition_noise=0.1) for _ in range(2))
    for step in (3, 4):
        assert torch.equal(first.background_of_step(step), second.background_of_step(step))
        assert torch.equal(first.condition_of_step(step), second.condition_of_step(step))
    assert not torch.equal(first.background_of_step(3), first.background_of_step(4))


def test_a_term_that_is_not_finite_is_named_with_its_step(shots: Shots) -> None:
    run = training(shots)
    run.one_step()
    run.target = lambda index, background, made: torch.full((1, 3, SIDE, SIDE), float("nan"))  # type: ignore[method-assign]
    with pytest.raises(TrainingDiverged, match="step 1: l1 is not finite"):
        run.one_step()


def test_gaussians_that_cannot_be_drawn_are_a_verdict_that_names_the_rate(shots: Shots) -> None:
    run = training(shots)
    with torch.no_grad():
        run.model.log_scales[7] = float("inf")
    with pytest.raises(TrainingDiverged, match=r"step 0: scales of Gaussian 7 .*; lower train_headgas.learning_rate"):
        run.one_step()


def test_no_memory_left_says_what_to_lower(shots: Shots) -> None:
    run = training(shots)

    def full() -> dict[str, float]:
        raise torch.OutOfMemoryError("CUDA out of memory")

    run.one_step = full  # type: ignore[method-assign]
    with pytest.raises(OutOfMemory, match="300 Gaussians at 48 pixels; lower train_headgas.density.max_gaussians"):
        run.run(Path("none.pt"), checkpoint_every=1000)


def with_perceptual_term(shots: Shots, start: float) -> Training:
    return Training(
        OPTIONS.model_copy(update={"lambda_perceptual": 0.1, "perceptual_start": start}),
        shots, procedural_head(), torch.from_numpy(make_person(3).identity), "cpu", features=Vgg16Features(),
    )  # fmt: skip


def test_the_perceptual_term_joins_after_its_start(shots: Shots) -> None:
    torch.manual_seed(0)
    run = with_perceptual_term(shots, start=0.04)
    terms = [run.one_step() for _ in range(4)]
    assert ["perceptual" in found for found in terms] == [False, False, False, True]


def test_a_term_that_begins_between_two_points_of_the_curve_is_the_mean_of_its_own_steps(shots: Shots) -> None:
    run = with_perceptual_term(shots, start=23 / 75)
    steps = []

    def step() -> dict[str, float]:
        steps.append(run.one_step())
        return steps[-1]

    run.one_step_or_advice = step  # type: ignore[method-assign]
    run.run(Path("none.pt"), checkpoint_every=1000, until=25)
    assert [step for step, found in enumerate(steps) if "perceptual" in found] == [23, 24]
    assert run.curve[0]["perceptual"] == pytest.approx((steps[23]["perceptual"] + steps[24]["perceptual"]) / 2)
    assert run.curve[0]["loss"] == pytest.approx(sum(found["loss"] for found in steps) / 25)


def test_a_checkpoint_that_cannot_be_read_is_passed_over(
    shots: Shots, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(b"half of it")
    run = training(shots)
    run.load(path)
    assert run.step == 0 and "training starts over" in capsys.readouterr().out


def test_a_run_with_stops_ends_with_the_same_bits(shots: Shots, tmp_path: Path) -> None:
    whole, stopped = training(shots), training(shots)
    whole.run(tmp_path / "whole.pt", checkpoint_every=25)
    stopped.run(tmp_path / "stopped.pt", checkpoint_every=25, until=25)
    stopped.training_psnr()  # somebody looks
    stopped.run(tmp_path / "stopped.pt", checkpoint_every=25)
    assert stopped.curve == whole.curve
    for name, tensor in whole.model.tensors().items():
        assert torch.equal(tensor, stopped.model.tensors()[name]), name


def test_what_the_video_does_not_show_changes_nothing(shots: Shots) -> None:
    known = shots.known.copy()
    known[:, SIDE - 12 :] = False
    images = shots.images.copy()
    images[:, SIDE - 12 :] = 255 - images[:, SIDE - 12 :]
    runs = [training(replace(shots, known=known, images=pictures)) for pictures in (shots.images, images)]
    same_start = runs[0].model.state_dict()
    runs[1].model.load_state_dict(
        same_start
    )  # first colours are looked up in whole pictures' known pixels, points are the same
    for run in runs:
        for _ in range(12):
            run.one_step()
    assert all(torch.equal(a, b) for a, b in zip(*(run.model.state_dict().values() for run in runs), strict=True))


def test_a_pose_that_was_tracked_wrongly_is_turned_back(shots: Shots) -> None:
    wrong = torch.zeros(FRAMES, 6)
    wrong[2, 1] = 0.06  # radians, about the head's y axis
    centre = shots.camera.viewmat.new_zeros(3)
    tracked = replace(shots, camera=twisted(shots.camera, wrong, centre))
    run = training(tracked, pose_rate=5e-3, steps=300)
    while run.step < 300:
        run.one_step()
    turned = run.poses.twists[:, 1]
    assert turned[2] - turned[[0, 1, 3, 4, 5]].mean() < -0.02
    assert run.poses.twists.mean(0).abs().max() < 1e-6


def test_poses_are_kept_at_first_and_where_they_are_not_to_be_corrected(shots: Shots) -> None:
    late, never = training(shots, steps=1000, pose_rate=5e-3), training(shots, pose_rate=0.0)
    for run in (late, never):
        for _ in range(10):
            run.one_step()
        assert run.poses.twists.abs().max() == 0.0
