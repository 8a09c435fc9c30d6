"""The one-shot model learns, goes on as if it had never stopped, and does not care how many share a batch."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
import torch

from avatar_models.gagavatar.storage import read_model
from avatar_models.model_folder import FACTS
from pipelines.cache import Cache, Entry, EntryWriter
from pipelines.fanout import Item, MachineUnfit
from pipelines.fleet import trainer
from pipelines.fleet.checkpoints import dump, load
from pipelines.fleet.trainer import train_here
from pipelines.oneshot import training
from pipelines.oneshot.trainer import OneshotTrainer
from pipelines.params import Fleet
from pipelines.training import TrainingDiverged
from tests.pipelines.cut import train_until_cut
from tests.pipelines.oneshot.made import OPTIONS, recipe, setup, weights
from tests.pretended_gpu import PretendedGpu


def writer(folder: Path, key: str = "0") -> EntryWriter:
    return Cache(str(folder / "cache")).writer(key)


def test_it_learns_and_says_so(people: Path, tiny_model: None, tmp_path: Path) -> None:
    own, out = setup(people), writer(tmp_path)
    train_here(own, out, Fleet())
    losses = [point["loss"] for point in own.training.curve]
    assert [point["step"] for point in own.training.curve] == [10, 20, 30, 40]
    assert losses[-1] < 0.8 * losses[0]
    assert [point["step"] for point in own.training.curve if "held_out_psnr" in point] == [20, 40]
    told = out.news.take("model")
    assert told is not None and told.said.startswith("step 40 of 40, loss") and len(told.points) == 4
    assert told.files["progress.png"][:4] == b"\x89PNG"


def test_on_a_gpu_it_learns_the_same(people: Path, tiny_model: None, tmp_path: Path, gpu: str) -> None:
    """Other code finds the nearest points there, and no tensor may lie elsewhere."""
    here, there = setup(people, steps=20), recipe(people, steps=20).prepare(gpu)
    for own, key in ((here, "0"), (there, "1")):
        train_here(own, writer(tmp_path, key), Fleet())
    assert all(weight.is_cuda for weight in there.training.average.parameters())
    assert there.training.curve[-1]["loss"] == pytest.approx(here.training.curve[-1]["loss"], rel=1e-3)
    assert there.training.curve[-1]["held_out_psnr"] == pytest.approx(here.training.curve[-1]["held_out_psnr"], abs=0.05)


def test_a_step_waits_for_the_gpu_once_beside_the_splatting(people: Path, tiny_model: None) -> None:
    with PretendedGpu() as gpu:
        own = recipe(people).prepare("cuda")
        batch = own.pairs.batch([(0, 1), (4, 5)]).to("cuda")
        gpu.waits.clear()
        own.training.one_step(batch)
        assert gpu.waits == ["splat", "splat", "tolist"]


@pytest.mark.parametrize("cut", [33])
def test_a_run_that_was_cut_ends_with_the_same_bits(people: Path, tiny_model: None, tmp_path: Path, cut: int) -> None:
    whole = setup(people)
    train_here(whole, writer(tmp_path, "whole"), Fleet())

    train_until_cut(setup(people), writer(tmp_path), cut)
    second = setup(people, seed=OPTIONS.seed)
    train_here(second, writer(tmp_path), Fleet(num_cpus=2.0))
    assert torch.equal(weights(second), weights(whole))
    assert second.training.curve == whole.training.curve
    assert second.pictures() == whole.pictures()


def test_pictures_of_all_probes_are_there_where_other_processes_have_trained(
    people: Path, tiny_model: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere, own = setup(people), setup(people)
    train_here(elsewhere, writer(tmp_path), Fleet())
    monkeypatch.setattr(trainer, "train_on_fleet", lambda *asked: load(dump(elsewhere.training.state()), "cpu"))
    trainer.Trainer(recipe(people), Fleet(count=2), "", "compute.oneshot").train(own, writer(tmp_path, "1"))
    assert own.training.curve == elsewhere.training.curve
    photo, target, *probes = (column.shape for column in own.training.shown)
    assert photo == target == probes[0] and len(probes) == 2
    assert own.pictures() == elsewhere.pictures()


def test_a_model_that_other_processes_have_half_trained_is_not_passed_off_as_whole(
    people: Path, tiny_model: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = dump(setup(people).training.state())
    monkeypatch.setattr(trainer, "train_on_fleet", lambda *asked: load(half, "cpu"))
    with pytest.raises(RuntimeError, match=f"training ended at step 0 of {OPTIONS.steps}"):
        trainer.Trainer(recipe(people), Fleet(count=2), "", "compute.oneshot").train(setup(people), writer(tmp_path))


def test_a_checkpoint_that_cannot_be_read_is_passed_over(
    people: Path, tiny_model: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own, out = setup(people, steps=10), writer(tmp_path)
    out.keep("checkpoint.pt", b"half of it")
    train_here(own, out, Fleet())
    assert own.training.step == 10 and "training starts over" in capsys.readouterr().out


def test_some_steps_are_profiled_where_that_is_asked_for(people: Path, tiny_model: None, tmp_path: Path) -> None:
    own, out = setup(people, steps=10), writer(tmp_path)
    train_here(own, out, Fleet(profile_steps=2))
    told = out.news.take("model")
    assert told is not None and "aten::" in told.files["profile.txt"].decode()
    trace = json.loads(gzip.decompress(told.files["profile.json.gz"]))
    steps = {event["name"] for event in trace["traceEvents"] if event["name"].startswith("ProfilerStep")}
    assert steps == {"ProfilerStep#5", "ProfilerStep#6"}


def test_gradients_of_shares_add_up_to_those_of_the_batch(people: Path, tiny_model: None) -> None:
    """What DDP averages over three processes, of which one has no second sample, is the gradient of the whole batch."""
    whole = setup(people, batch=4)
    pairs = list(zip([0, 1, 2, 3], [1, 2, 0, 4], strict=True))
    pairs[3] = (3, 4)
    whole.training.one_step(whole.pairs.batch(pairs))
    wanted = [parameter.grad.clone() for parameter in whole.training.model.parameters() if parameter.grad is not None]
    summed = [torch.zeros_like(gradient) for gradient in wanted]
    for part in (pairs[0::3], pairs[1::3], pairs[2::3]):
        own = setup(people, batch=4, clip_norm=1e9)
        own.training.one_step(own.pairs.batch(part), share=len(part) * 3 / 4)
        found = [parameter.grad for parameter in own.training.model.parameters() if parameter.grad is not None]
        for total, gradient in zip(summed, found, strict=True):
            total += gradient / 3
    whole_norm = torch.cat([gradient.flatten() for gradient in wanted]).norm()
    norm = torch.cat([gradient.flatten() for gradient in summed]).norm()
    scale = min(1.0, OPTIONS.clip_norm / float(norm))
    for total, gradient in zip(summed, wanted, strict=True):
        torch.testing.assert_close(total * scale, gradient, atol=1e-5 * float(whole_norm), rtol=1e-4)


def test_a_loss_that_is_not_finite_stops_training_with_its_name(people: Path, tiny_model: None) -> None:
    own = setup(people)
    with torch.no_grad():
        own.training.model.lifting[0].convs[6].bias[-1] = float("inf")
        own.training.model.lifting[0].convs[6].weight.fill_(float("nan"))
    with pytest.raises(TrainingDiverged, match="step 0: .* not finite.*; lower train_oneshot.learning_rate"):
        own.training.one_step(own.pairs.batch([(0, 1)]))


def test_the_rate_falls_to_a_tenth_and_the_styles_is_a_tenth(people: Path, tiny_model: None) -> None:
    training = setup(people).training
    rates = []
    for step in (0, OPTIONS.steps // 2, OPTIONS.steps):
        training.step = step
        training.set_rates()
        rates.append([group["lr"] / OPTIONS.learning_rate for group in training.optimizer.param_groups])
    torch.testing.assert_close(rates, [[1.0, 0.1], [0.55, 0.055], [0.1, 0.01]])


def test_what_is_written_is_the_averaged_model_with_its_facts(people: Path, tiny_model: None, tmp_path: Path) -> None:
    own = recipe(people)
    cache, key = Cache(str(tmp_path / "cache")), "0" * 64
    out = cache.writer(key)
    summary = OneshotTrainer({}, own, Fleet(), "")(Item("model", "0"), None, out)
    out.commit(summary, 0.0)
    entry = cache.find(key)
    assert isinstance(entry, Entry)
    folder = tmp_path / "model"
    for name in ("model.safetensors", FACTS):
        entry.copy_to(name, folder / name)
    stored = read_model(folder)
    assert stored.facts["head"] == "procedural" and stored.facts["clips"] == 3 and len(stored.vertices) == 30
    assert summary["steps"] == 40 and summary["held_out_psnr"] > 5
    assert json.loads(entry.read_bytes("curve.json"))[-1]["step"] == 40


def test_a_processor_without_bfloat16_is_not_made_to_imitate_it(
    people: Path, tiny_model: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "has_bfloat16", lambda device: False)
    with pytest.raises(MachineUnfit, match="set train_oneshot.precision: float32"):
        OneshotTrainer({}, recipe(people, precision="bfloat16"), Fleet(), "")(Item("model", "0"), None, writer(tmp_path))
    with pytest.raises(MachineUnfit, match="set train_oneshot.precision: float32"):  # as one of several
        setup(people, precision="bfloat16").training.distribute()
