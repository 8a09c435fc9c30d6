"""What happens at which step, whoever works on it: with a training that only counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from pipelines.cache import Cache
from pipelines.fleet.loop import Place
from pipelines.fleet.trainer import train_here
from pipelines.params import Fleet


@dataclass(frozen=True)
class Options:
    steps: int = 25
    batch: int = 5
    checkpoint_every: int = 10
    probes: int = 2


@dataclass
class Counting:
    """Its one weight is the sum of all samples that it has seen."""

    options: Options = field(default_factory=Options)
    device: str = "cpu"
    step: int = 0
    curve: list[dict[str, float]] = field(default_factory=list)
    seen: float = 0.0
    dies_at: int = -1

    def one_step(self, batch: torch.Tensor, share: float) -> dict[str, float]:
        if self.step == self.dies_at:
            raise KeyboardInterrupt
        self.step += 1
        self.seen += float(batch.sum())
        return {"loss": float(batch.mean())}

    def distribute(self) -> None:
        raise AssertionError("one process alone")

    def state(self) -> dict[str, Any]:
        return {"step": self.step, "curve": self.curve, "seen": self.seen}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.step, self.curve, self.seen = state["step"], state["curve"], state["seen"]


@dataclass
class CountingRun:
    training: Counting = field(default_factory=Counting)

    def batches(self, steps: range, place: Place, threads: int) -> Iterator[torch.Tensor]:
        for step in steps:
            yield torch.tensor([float(sample) for sample in place.samples(step, self.training.options.batch)])

    def probe(self) -> dict[str, float]:
        return {"seen": self.training.seen}

    def pictures(self) -> dict[str, bytes]:
        return {"seen.txt": str(self.training.seen).encode()}


TOTAL = float(sum(range(25 * 5)))


def test_points_probes_and_news_come_at_their_steps(tmp_path: Path) -> None:
    run, out = CountingRun(), Cache(str(tmp_path)).writer("0")
    train_here(run, out, Fleet())
    assert [point["step"] for point in run.training.curve] == [10, 20, 25]
    assert [point["step"] for point in run.training.curve if "seen" in point] == [10, 25]
    assert run.training.curve[0]["loss"] == pytest.approx(sum(range(50)) / 50)  # the mean over the steps since the last point
    told = out.news.take("model")
    assert told is not None and told.said == "step 25 of 25, loss 112" and told.files == {"seen.txt": str(TOTAL).encode()}


def test_a_run_that_dies_goes_on_from_its_last_checkpoint_and_sees_each_sample_once(tmp_path: Path) -> None:
    cache = Cache(str(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        train_here(CountingRun(Counting(dies_at=17)), cache.writer("0"), Fleet())
    again = CountingRun()
    train_here(again, cache.writer("0"), Fleet())
    assert again.training.seen == TOTAL
    assert [point["step"] for point in again.training.curve] == [10, 20, 25]


@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_workers_share_a_step_without_gap_or_double(world: int) -> None:
    for step in (0, 1, 17):
        shared = [sample for rank in range(world) for sample in Place(rank, world).samples(step, 5)]
        assert sorted(shared) == list(range(step * 5, (step + 1) * 5))
    assert sum(Place(rank, world).share(3, 5) for rank in range(world)) == pytest.approx(world)
