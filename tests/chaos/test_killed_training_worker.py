"""Two processes train one model, one of them is killed: training goes on by itself and learns what one process alone does."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import psutil
import pytest
import torch

from avatar_models.gagavatar.storage import model_files
from pipelines.cache import UNFINISHED, Cache, Failure
from pipelines.fanout import Item, Step, fan_out
from pipelines.fleet.ray_train import OWN_CPUS
from pipelines.fleet.trainer import train_here
from pipelines.news import Told
from pipelines.oneshot.setup import Recipe
from pipelines.oneshot.trainer import OneshotTrainer
from pipelines.params import Compute, Fleet, Workers
from tests.avatar_models.gagavatar.tiny import TINY, tiny
from tests.chaos.victims import processes_below
from tests.pipelines.oneshot.made import OPTIONS, write_people

STEPS = 60


def start_from(folder: Path) -> str:
    """A model small enough for a test; other processes get it by its folder."""
    folder.mkdir()
    for name, data in model_files(tiny(), torch.arange(TINY.num_vertices), {"head": "procedural", "head_hash": ""}).items():
        (folder / name).write_bytes(data)
    return str(folder)


class KillsAWorker:
    """Listens, and kills one of Ray Train's processes once training has passed its first checkpoint."""

    def __init__(self) -> None:
        self.killed: list[int] = []

    def heard(self, told: Told) -> None:
        if not self.killed and any(point["step"] >= 20 for point in told.points):
            victim = processes_below(psutil.Process(), "RayTrainWorker")[0]  # Ray's processes are this one's children
            self.killed.append(victim.pid)
            victim.kill()

    def failed(self, failure: Failure) -> None:
        raise AssertionError(failure.message)


def test_two_processes_of_which_one_is_killed_learn_what_one_does(tmp_path: Path) -> None:
    root = write_people(tmp_path / "project")
    changes = {"start_from": start_from(tmp_path / "first"), "steps": STEPS, "checkpoint_every": 10, "probes": 0}
    recipe = Recipe(OPTIONS.model_copy(update=changes).as_key(), "", str(root))
    alone = recipe.prepare("cpu")
    train_here(alone, Cache(str(tmp_path / "alone")).writer("0"), Fleet())

    storage = tmp_path / "cache" / UNFINISHED
    worker = partial(OneshotTrainer, recipe=recipe, fleet=Fleet(num_cpus=0.9, count=2), storage=str(storage))
    step = Step("train_oneshot", 1, worker, {}, Workers(num_cpus=OWN_CPUS, count=1))
    listener = KillsAWorker()
    compute = Compute(cache=str(tmp_path / "cache"))
    result = fan_out("train_oneshot", [step], [Item("model", "0")], compute=compute, listener=listener)
    assert len(listener.killed) == 1 and not result.quarantined

    curve = json.loads(result.last("model").read_bytes("curve.json"))
    assert [point["step"] for point in curve] == list(range(10, STEPS + 1, 10))
    for point, wanted in zip(curve, alone.training.curve, strict=True):
        # Sums of two halves round otherwise, and Adam makes steps of a weight's full rate out of that.
        assert point["loss"] == pytest.approx(wanted["loss"], rel=1e-2)
    assert not list(storage.iterdir())  # its checkpoints are not needed any more
