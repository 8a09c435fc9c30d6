"""Processes that train together have room, or it is said that they have not."""

from __future__ import annotations

import errno
from types import SimpleNamespace
from typing import Any

import pytest
import ray
import ray.exceptions
import ray.train
import torch

from avatar_models.model_folder import ModelError
from pipelines.atomic import DiskFull
from pipelines.fanout import MachineUnfit
from pipelines.fleet.ray_train import Mailbox, expect_room, worker_loop
from pipelines.params import Fleet


def test_a_fleet_that_does_not_fit_is_told_before_it_waits() -> None:
    fleet = Fleet(num_cpus=1.0, count=4, least=2)
    expect_room(fleet, "compute.nphm", {"CPU": 2.1})
    with pytest.raises(MachineUnfit, match=r"compute.nphm wants 2 processes of 1 CPUs; the cluster has 1.9 for them"):
        expect_room(fleet, "compute.nphm", {"CPU": 2.0})
    with pytest.raises(MachineUnfit, match=r"wants 3 processes of 1 GPUs; the cluster has 0"):
        expect_room(Fleet(num_gpus=1.0, count=3), "compute.nphm", {"CPU": 8.0})


class InHere:
    """A mailbox that is no actor; `ray.get` gives back what its calls give."""

    def __init__(self, lost: bool = False) -> None:
        self.box, self.lost = Mailbox(), lost

    @property
    def gave_up(self) -> Any:
        return SimpleNamespace(remote=self.answer)

    def answer(self, *why: Exception) -> Exception | None:
        if self.lost:
            raise ray.exceptions.RayActorError
        return self.box.gave_up(*why)


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """One process of Ray Train's, without Ray."""
    context = SimpleNamespace(get_world_rank=lambda: 0, get_world_size=lambda: 1)
    monkeypatch.setattr(ray, "get", lambda answer: answer)
    monkeypatch.setattr(ray.train, "get_context", lambda: context)
    monkeypatch.setattr(ray.train, "get_checkpoint", lambda: None)


class Unfit:
    """A recipe whose training finds out that this machine is none for it."""

    def __init__(self) -> None:
        self.asked = 0

    def prepare(self, device: str) -> Any:
        self.asked += 1
        return SimpleNamespace(training=self, options=None)

    def distribute(self) -> None:
        raise MachineUnfit("no bfloat16 here")


def test_a_process_that_cannot_go_on_says_why_and_is_not_started_again_for_nothing(alone: None) -> None:
    mailbox, recipe = InHere(), Unfit()
    config = {"mailbox": mailbox, "recipe": recipe, "fleet": Fleet(), "block": "compute.nphm"}
    with pytest.raises(MachineUnfit, match="no bfloat16 here"):
        worker_loop(config)
    worker_loop(config)  # Ray Train starts it again, and again if this raises
    assert isinstance(mailbox.box.why, MachineUnfit) and recipe.asked == 1


@pytest.mark.parametrize(
    ("error", "known"),
    [
        (ModelError("made for another head"), ModelError),
        (torch.OutOfMemoryError("no room"), MachineUnfit),
        (OSError(errno.ENOSPC, "No space left on device", "state.pt"), DiskFull),
        (RuntimeError("a cable was pulled"), None),
    ],
)
def test_what_would_come_again_is_known_and_what_may_pass_is_not(alone: None, error: Exception, known: type | None) -> None:
    mailbox = InHere()
    recipe = SimpleNamespace(prepare=lambda device: throw(error))
    with pytest.raises(known or RuntimeError) as raised:
        worker_loop({"mailbox": mailbox, "recipe": recipe, "fleet": Fleet(), "block": "compute.nphm"})
    assert (mailbox.box.why is None) == (known is None)
    if known is MachineUnfit:
        assert "compute.nphm: a process has no memory left" in str(raised.value)


def throw(error: Exception) -> None:
    raise error


def test_a_lost_mailbox_stops_no_process(alone: None) -> None:
    recipe = Unfit()
    with pytest.raises(MachineUnfit, match="no bfloat16"):  # it came so far
        worker_loop({"mailbox": InHere(lost=True), "recipe": recipe, "fleet": Fleet(), "block": "compute.nphm"})
    assert recipe.asked == 1
