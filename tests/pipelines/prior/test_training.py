"""The prior learns, goes on as if it had never stopped, and does not care how many share a batch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from avatar_models.heads.nphm.fit import FitOptions
from avatar_models.heads.nphm.storage import read_nphm
from pipelines.cache import Cache, Entry
from pipelines.fanout import Item
from pipelines.fleet.loop import Place
from pipelines.fleet.trainer import train_here
from pipelines.params import Fleet, Params, ParamsError, Source, TrainNphm
from pipelines.prior import setup, trainer
from pipelines.prior.items import prior_step
from pipelines.prior.setup import PriorRun, Recipe
from pipelines.prior.trainer import PriorTrainer
from tests.avatar_models.heads.nphm.tiny import TINY
from tests.pipelines.cut import train_until_cut

OPTIONS = TrainNphm.model_validate(
    {
        "people": 3,
        "unseen": 2,
        "mixtures": 2,
        "steps": 40,
        "batch": 3,
        "points": 40,
        "around": 10,
        "probes": 1,
        "checkpoint_every": 20,
    }
)


@pytest.fixture(autouse=True)
def tiny_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """`sizes: small` means tiny, and fits are short."""
    monkeypatch.setitem(setup.SIZES, "small", lambda: TINY)
    monkeypatch.setattr(trainer, "THOROUGH", FitOptions(steps=10, points=100))
    monkeypatch.setattr(setup, "QUICK", FitOptions(steps=2, points=100))


def recipe(**changes: object) -> Recipe:
    return Recipe(OPTIONS.model_copy(update=changes).as_key(), "")


def prepared(**changes: object) -> PriorRun:
    return recipe(**changes).prepare("cpu")


def weights(run: PriorRun) -> torch.Tensor:
    return torch.cat([value.detach().flatten() for value in run.training.prior.parameters()])


def test_on_a_gpu_it_learns_the_same(tmp_path: Path, gpu: str) -> None:
    here, there, cache = prepared(), recipe().prepare(gpu), Cache(str(tmp_path))
    for number, own in enumerate((here, there)):
        train_here(own, cache.writer(str(number)), Fleet())
    assert weights(there).is_cuda
    assert there.training.curve[-1] == pytest.approx(here.training.curve[-1], rel=1e-2)


def test_a_run_that_was_cut_ends_with_the_same_bits(tmp_path: Path) -> None:
    whole, cache = prepared(), Cache(str(tmp_path))
    train_here(whole, cache.writer("0"), Fleet())
    losses = [point["loss"] for point in whole.training.curve]
    assert losses[-1] < 0.7 * losses[0] and "unseen_mm" in whole.training.curve[-1]

    train_until_cut(prepared(), cache.writer("1"), 33)
    second = prepared()
    train_here(second, cache.writer("1"), Fleet(num_cpus=2.0))
    assert torch.equal(weights(second), weights(whole)) and second.training.curve == whole.training.curve


def test_processes_that_share_a_batch_draw_what_one_alone_does() -> None:
    run = prepared()
    (whole,) = run.batches(range(4, 5), Place(), 1)
    parts = [next(run.batches(range(4, 5), Place(rank, 2), 1)) for rank in range(2)]
    assert [len(part.people) for part in parts] == [2, 1]
    for rank, part in enumerate(parts):
        assert torch.equal(part.scans.surface, whole.scans.surface[rank::2]) and torch.equal(part.people, whole.people[rank::2])


def test_gradients_of_shares_add_up_to_those_of_the_batch() -> None:
    alone = prepared()
    (batch,) = alone.batches(range(1), Place(), 1)
    alone.training.one_step(batch)
    wanted = [weight.grad for weight in alone.training.networks]
    total = [torch.zeros_like(weight) for weight in alone.training.networks]
    for rank in range(2):
        shared, place = prepared(clip_norm=1e9), Place(rank, 2)
        (part,) = shared.batches(range(1), place, 1)
        shared.training.one_step(part, place.share(0, OPTIONS.batch))
        for sum_, weight in zip(total, shared.training.networks, strict=True):
            sum_ += weight.grad / 2
    norm = torch.cat([gradient.flatten() for gradient in total]).norm()
    scale = min(1.0, OPTIONS.clip_norm / float(norm))
    for sum_, gradient in zip(total, wanted, strict=True):
        torch.testing.assert_close(sum_ * scale, gradient, rtol=1e-3, atol=1e-6)


def test_what_is_written_is_a_head_with_its_codes_and_its_card(tmp_path: Path) -> None:
    cache = Cache(str(tmp_path / "cache"))
    out = cache.writer("2")
    summary = PriorTrainer({}, recipe(steps=10), Fleet(), "")(Item("prior", "0"), None, out)
    out.commit(summary, 0.0)
    entry = cache.find("2")
    assert isinstance(entry, Entry) and summary["steps"] == 10
    for name in ("model.safetensors", "model.json", "README.md"):
        entry.copy_to(name, tmp_path / "model" / name)
    stored = read_nphm(tmp_path / "model")
    assert stored.facts["head"] == "procedural" and len(stored.codes.geometry) == 3
    assert len(stored.codes.expression) == stored.facts["expressions"]
    card = (tmp_path / "model" / "README.md").read_text()
    assert f"| unseen people, neutral | {summary['unseen_mm']} mm |" in card and "no person's data" in card
    assert [point["step"] for point in json.loads(entry.read_bytes("curve.json"))] == [10]


def test_unseen_people_and_their_mixtures_are_others() -> None:
    run = prepared()
    known, unseen = run.scans, run.unseen
    templates = [person.template for person in (*known.people, *unseen.people)]
    assert all(float((a - b).abs().max()) > 1e-3 for k, a in enumerate(templates) for b in templates[:k])
    mixtures = [scans.expressions.coefficients[-2:].numpy() for scans in (known, unseen)]
    assert not np.allclose(*mixtures)


def test_the_heads_file_is_in_the_key_by_content_and_missed_by_name(tmp_path: Path) -> None:
    file = tmp_path / "ict.npz"

    def step():  # type: ignore[no-untyped-def]
        own = OPTIONS.model_copy(update={"scans": "ict", "head_file": str(file)})
        return prior_step(Params(source=Source(kind="folder", path="a", watch="a"), train_nphm=own))

    with pytest.raises(ParamsError, match="train_nphm.head_file = .*ict.npz': ict needs its file there"):
        step()
    file.write_bytes(b"one")
    first = step()
    file.write_bytes(b"another")
    assert first.assets != step().assets and "head_file" not in first.params
