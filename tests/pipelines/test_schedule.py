"""What a step does, by its number alone."""

from __future__ import annotations

import pytest

from pipelines.params import Density, TrainHeadgas
from pipelines.schedule import density_rules, frame_of_step, is_on_plateau, probe_steps, rate_factors, sh_degree


def test_every_epoch_sees_every_frame_once_in_an_order_of_its_own() -> None:
    epochs = [[frame_of_step(9 * epoch + k, 9, seed=4) for k in range(9)] for epoch in range(3)]
    assert all(sorted(epoch) == list(range(9)) for epoch in epochs) and epochs[0] != epochs[1]


def test_rates_fall_along_a_cosine_or_as_in_3dgs() -> None:
    assert rate_factors("cosine", 0.0) == (1.0, 1.0) and rate_factors("cosine", 1.0) == pytest.approx((0.05, 0.05))
    assert rate_factors("3dgs", 0.5) == pytest.approx((0.1, 1.0)) and rate_factors("3dgs", 1.0) == pytest.approx((0.01, 1.0))


def test_harmonics_come_in_one_degree_after_the_other() -> None:
    options = TrainHeadgas(steps=100, sh_degree=3, sh_warmup=0.3)
    assert [sh_degree(options, step) for step in (0, 9, 10, 20, 29, 30, 99)] == [0, 0, 1, 2, 2, 3, 3]
    assert sh_degree(TrainHeadgas(sh_degree=2), 0) == 2


def test_the_papers_density_schedule_in_steps() -> None:
    options = TrainHeadgas(steps=50_000, density=Density(start=0.01, stop=0.3, reset_every=3000))
    rules = density_rules(options.density, options.steps)
    assert (rules.start, rules.stop, rules.every, rules.reset_every) == (500, 15_000, 100, 3000)


def test_probes_are_spread_over_the_steps_and_one_is_the_last() -> None:
    assert probe_steps(4, 1510, 25) == {375, 750, 1125, 1510}
    assert probe_steps(3, 20, 25) == {20} and probe_steps(0, 100, 25) == set()


def test_a_plateau_is_a_loss_that_stays() -> None:
    falling = [{"step": 25.0 * k, "loss": 1 / k} for k in range(1, 41)]
    level = [{"step": 25.0 * k, "loss": max(1 / k, 0.05)} for k in range(1, 61)]
    assert not is_on_plateau(falling, 200) and is_on_plateau(level, 200)
    assert not is_on_plateau(level, 0) and not is_on_plateau(level[-3:-2], 2000) and not is_on_plateau([], 200)
