"""Two processes train one model, one of them is killed: training goes on by itself and learns what one process alone does."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import psutil
import pytest
import torch

from avatar_models.gagavatar.storage import model_files
from pipelines.cluster import ray_cluster
from pipelines.news import News
from pipelines.oneshot.ray_train import train_on_fleet
from pipelines.oneshot.setup import Recipe
from pipelines.oneshot.trainer import Watch, train_here
from pipelines.params import Fleet
from tests.avatar_models.gagavatar.tiny import TINY, tiny
from tests.pipelines.oneshot.made import OPTIONS, write_people

STEPS = 60


def start_from(folder: Path) -> str:
    """A model small enough for a test; other processes get it by its folder."""
    folder.mkdir()
    for name, data in model_files(tiny(), torch.arange(TINY.num_vertices), {"head": "procedural", "head_hash": ""}).items():
        (folder / name).write_bytes(data)
    return str(folder)


def kill_a_worker(news: News, killed: list[int]) -> None:
    """Kills one of Ray Train's processes once training has passed its first checkpoint."""
    seen = 0.0
    while not killed:
        told = news.take("")
        seen = max([seen, *(point["step"] for point in told.points)]) if told is not None else seen
        if seen >= 20:
            victim = next(process for process in psutil.process_iter(["cmdline"]) if is_worker(process))
            killed.append(victim.pid)
            victim.kill()
        time.sleep(0.1)


def is_worker(process: psutil.Process) -> bool:
    return "RayTrainWorker" in " ".join(process.info["cmdline"] or [])


def test_two_processes_of_which_one_is_killed_learn_what_one_does(tmp_path: Path) -> None:
    root = write_people(tmp_path / "project")
    changes = {"start_from": start_from(tmp_path / "first"), "steps": STEPS, "checkpoint_every": 10, "probes": 0}
    recipe = Recipe(OPTIONS.model_copy(update=changes).as_key(), "", str(root))
    alone = recipe.prepare("cpu")
    train_here(alone, Watch(alone, News()), tmp_path / "alone.pt", 1)

    news = News()
    killed: list[int] = []
    watcher = threading.Thread(target=kill_a_worker, args=(news, killed), daemon=True)
    watcher.start()
    with ray_cluster(min_cpus=3):
        state = train_on_fleet(recipe, Fleet(num_cpus=1.0, count=2), str(tmp_path / "fleet"), "run", news)
    watcher.join(1)
    assert len(killed) == 1

    curve = state["curve"]
    assert [point["step"] for point in curve] == list(range(10, STEPS + 1, 10))
    for point, wanted in zip(curve, alone.training.curve, strict=True):
        # Sums of two halves round otherwise, and Adam without momentum makes steps of a weight's full rate out of that.
        assert point["loss"] == pytest.approx(wanted["loss"], rel=1e-3)
