"""Processes that train together have room, or it is said that they have not."""

from __future__ import annotations

import pytest

from pipelines.fleet.ray_train import FleetTooLarge, expect_room
from pipelines.params import Fleet


def test_a_fleet_that_does_not_fit_is_told_before_it_waits() -> None:
    fleet = Fleet(num_cpus=1.0, count=4, least=2)
    expect_room(fleet, "compute.nphm", {"CPU": 2.1})
    with pytest.raises(FleetTooLarge, match=r"compute.nphm wants 2 processes of 1 CPUs; the cluster has 1.9 for them"):
        expect_room(fleet, "compute.nphm", {"CPU": 2.0})
    with pytest.raises(FleetTooLarge, match=r"wants 3 processes of 1 GPUs; the cluster has 0"):
        expect_room(Fleet(num_gpus=1.0, count=3), "compute.nphm", {"CPU": 8.0})
