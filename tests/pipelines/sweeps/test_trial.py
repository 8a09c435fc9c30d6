"""When a trial reports, and what its curve is."""

from __future__ import annotations

from pipelines.sweeps.trial import mean_curve, report_steps
from pipelines.training import CURVE_EVERY


def test_reports_are_shares_of_training_at_steps_that_change_no_curve() -> None:
    assert report_steps(900, 8) == [(number, 100 * number) for number in range(1, 9)]
    short, long = dict(report_steps(600, 3)), dict(report_steps(6000, 3))
    assert short == {1: 150, 2: 300, 3: 450} and long == {1: 1500, 2: 3000, 3: 4500}
    for steps in (1, 25, 30, 100, 333):
        found = report_steps(steps, 8)
        assert all(stop % CURVE_EVERY == 0 and stop < steps for _, stop in found)
        assert len({stop for _, stop in found}) == len(found)


def test_a_curve_is_the_mean_of_what_all_subjects_have() -> None:
    one = [{"step": 25, "loss": 0.4, "extra": 1.0}, {"step": 50, "loss": 0.2}]
    other = [{"step": 25, "loss": 0.2}, {"step": 50, "loss": 0.1}, {"step": 75, "loss": 0.05}]
    assert mean_curve([one, other]) == [{"step": 25, "loss": 0.3}, {"step": 50, "loss": 0.15}]
