"""A forward field is distilled from a prior on disk, goes on as if it had never stopped, and says how well it does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from avatar_models.heads.nphm.forward_storage import read_forward
from avatar_models.heads.nphm.storage import Codebooks, nphm_files
from pipelines.atomic import sha256_file
from pipelines.cache import Cache, Entry
from pipelines.fanout import Item, ItemRejected
from pipelines.fleet.loop import Place
from pipelines.fleet.trainer import train_here
from pipelines.forward.items import forward_items, forward_step
from pipelines.forward.people import People
from pipelines.forward.setup import ForwardRun, Recipe
from pipelines.forward.trainer import ForwardTrainer
from pipelines.params import DistillForward, Fleet, Params, Source
from tests.avatar_models.heads.nphm.faceted import SIZES, faceted
from tests.pipelines.cut import train_until_cut

OPTIONS = DistillForward(
    steps=60, people=2, batch=3, points=60, hidden=24, learning_rate=5e-3, probes=1, checkpoint_every=20, held_out=0.3
)


@pytest.fixture(scope="module")
def prior(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three people with four expressions."""
    folder, g = tmp_path_factory.mktemp("project") / "models" / "nphm", torch.Generator().manual_seed(4)
    folder.mkdir(parents=True)
    geometry = 0.1 * torch.randn(3, SIZES.identity_code, generator=g)
    codes = Codebooks(geometry, torch.zeros_like(geometry), 0.3 * torch.randn(4, SIZES.expression_code, generator=g))
    for name, data in nphm_files(faceted(), codes, {"head": "procedural"}).items():
        (folder / name).write_bytes(data)
    return folder


def prepared(prior: Path, **changes: object) -> ForwardRun:
    return Recipe(OPTIONS.model_copy(update=changes).as_key(), str(prior)).prepare("cpu")


def weights(run: ForwardRun) -> torch.Tensor:
    return torch.cat([value.detach().flatten() for value in run.training.learned])


def test_on_a_gpu_it_learns_the_same(prior: Path, tmp_path: Path, gpu: str) -> None:
    here, there, cache = prepared(prior), Recipe(OPTIONS.as_key(), str(prior)).prepare(gpu), Cache(str(tmp_path))
    for number, own in enumerate((here, there)):
        train_here(own, cache.writer(str(number)), Fleet())
    assert weights(there).is_cuda
    assert there.training.curve[-1] == pytest.approx(here.training.curve[-1], rel=1e-2)


def test_a_run_that_was_cut_ends_with_the_same_bits(prior: Path, tmp_path: Path) -> None:
    whole, cache = prepared(prior), Cache(str(tmp_path))
    still = whole.error(whole.held_out)
    train_here(whole, cache.writer("0"), Fleet())
    assert whole.error(whole.held_out) < 0.8 * still
    assert whole.training.curve[-1]["held_out_mm"] == pytest.approx(1e3 * whole.error(whole.held_out))

    train_until_cut(prepared(prior), cache.writer("1"), 33)
    second = prepared(prior)
    train_here(second, cache.writer("1"), Fleet())
    assert torch.equal(weights(second), weights(whole)) and second.training.curve == whole.training.curve


def test_processes_that_share_a_batch_draw_what_one_alone_does(prior: Path) -> None:
    run = prepared(prior)
    (whole,) = run.batches(range(4, 5), Place(), 1)
    for rank in range(2):
        (part,) = run.batches(range(4, 5), Place(rank, 2), 1)
        assert torch.equal(part.points, whole.points[rank::2]) and torch.equal(part.expression, whole.expression[rank::2])


def test_the_prior_is_not_changed(prior: Path) -> None:
    run = prepared(prior)
    model = run.training.distilled.model
    before = [parameter.detach().clone() for parameter in model.parameters()]
    for batch in run.batches(range(3), Place(), 1):
        run.training.one_step(batch)
    assert all(torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))


def test_what_is_written_is_the_field_with_its_people_and_its_prior(prior: Path, tmp_path: Path) -> None:
    cache = Cache(str(tmp_path / "cache"))
    out = cache.writer("2")
    recipe = Recipe(OPTIONS.model_copy(update={"steps": 10}).as_key(), str(prior))
    summary = ForwardTrainer({}, recipe, Fleet(), "")(Item("field", "0"), None, out)
    out.commit(summary, 0.0)
    entry = cache.find("2")
    assert isinstance(entry, Entry) and summary["steps"] == 10 and summary["held_out_mm"] > 0
    for name in ("model.safetensors", "model.json"):
        entry.copy_to(name, tmp_path / "model" / name)
    stored = read_forward(tmp_path / "model")
    assert stored.people == ["person-000", "person-001"] and stored.field.sizes.hidden == 24
    stored.expect_prior(sha256_file(prior / "model.safetensors"), tmp_path)


def test_a_damaged_prior_is_told(tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text("{}")
    with pytest.raises(ItemRejected, match="the model is damaged"):
        ForwardTrainer({}, Recipe(OPTIONS.as_key(), str(tmp_path)), Fleet(), "")(
            Item("field", "0"), None, Cache(str(tmp_path)).writer("3")
        )


def test_the_item_is_there_where_a_prior_and_steps_are_and_follows_the_prior(prior: Path, tmp_path: Path) -> None:
    params = Params(source=Source(kind="folder", path="a", watch="a"), distill_forward=OPTIONS)
    root = prior.parent.parent
    (item,) = forward_items(params, root)
    assert forward_items(params, tmp_path) == []
    off = params.model_copy(update={"distill_forward": OPTIONS.model_copy(update={"steps": 0})})
    assert forward_items(off, root) == []
    (tmp_path / "models/nphm").mkdir(parents=True)
    (tmp_path / "models/nphm/model.safetensors").write_bytes(b"another")
    assert forward_items(params, tmp_path)[0].fingerprint != item.fingerprint
    assert "checkpoint_every" not in forward_step(params, root).params


def test_expressions_are_held_out_of_every_person() -> None:
    people = People(["a", "b"], torch.zeros(2, 3), [torch.arange(10.0)[:, None], torch.zeros(1, 1)])
    known, held = people.parted(0.2, np.random.default_rng(0))
    assert sorted(torch.cat([known.expressions[0], held.expressions[0]])[:, 0].tolist()) == list(range(10))
    assert len(held.expressions[0]) == 2
    assert torch.equal(known.expressions[1], held.expressions[1])  # of one, there is nothing to part
