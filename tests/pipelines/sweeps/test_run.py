"""The driver's loop on a real local Ray, with trials that take no time."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from pipelines.fanout import RunStopped
from pipelines.params import Compute
from pipelines.sweeps.config import Sweep, SweepError
from pipelines.sweeps.protocol import Work
from pipelines.sweeps.results import best_trials, best_values, choose_trial, importance, result_files, write_results
from pipelines.sweeps.run import Driver
from pipelines.sweeps.slots import Slots
from pipelines.sweeps.study import RESULT, open_storage, open_study, requeue_orphans
from tests.pipelines.sweeps import made
from tests.pipelines.sweeps.made import MadeUp, attempts, made_sweep

LEARNING_RATE = "train_headgas.learning_rate"


@pytest.fixture(scope="module")
def ray_session() -> Iterator[None]:
    import ray

    # Ray's processes cannot import test modules: what is in them is sent as code.
    ray.cloudpickle.register_pickle_by_value(sys.modules[made.__name__])
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    ray.init("local", num_cpus=4, include_dashboard=False, object_store_memory=100_000_000, **quiet)
    yield
    ray.shutdown()


class Told:
    """What MLflow would have been told."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.watched: dict[int, list[Sequence[Mapping[str, float]]]] = {}
        self.ended: dict[int, FrozenTrial] = {}

    def begin(self, number: int, values: Mapping[str, Any]) -> None:
        self.begun.append(number)

    def watch(self, number: int, points: Sequence[Mapping[str, float]]) -> None:
        self.watched.setdefault(number, []).append(points)

    def end(self, trial: FrozenTrial) -> None:
        assert trial.number not in self.ended
        self.ended[trial.number] = trial


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ray_session: None) -> Callable[..., tuple[optuna.Study, Told]]:
    monkeypatch.chdir(tmp_path)

    def driven(
        sweep: Sweep, deeds: Mapping[int, str] | None = None, journal: str = "a", make: Callable[[], Work] | None = None
    ) -> tuple[optuna.Study, Told]:
        (tmp_path / f"log-{journal}").mkdir(exist_ok=True)
        make = make or partial(MadeUp, tmp_path / f"log-{journal}", deeds or {})
        study = open_study(sweep, open_storage(f"{journal}.journal"), {"ann": "1"})
        slots = Slots(make, sweep.file.slots, sweep.file.trials, 60.0)
        told = Told()
        try:
            Driver(sweep, study, slots, Compute(max_attempts=2), told).run()
        finally:
            slots.close()
        return study, told

    return driven


def unable() -> Work:
    raise FileNotFoundError("no tracks here")


def states(study: optuna.Study) -> list[str]:
    return [trial.state.name for trial in study.trials]


def test_a_study_runs_goes_on_and_its_best_values_are_a_params_file(run: Any, tmp_path: Path) -> None:
    sweep = made_sweep(tmp_path, trials=5)
    study, told = run(sweep)
    assert states(study) == ["COMPLETE"] * 5 and told.begun == [*range(5)] == [*told.ended]
    assert told.ended[0].user_attrs[RESULT]["curve"] == [{"step": 25, "loss": 0.1}]
    assert [points[-1]["step"] for points in told.watched[0]] == [25, 50, 75]  # on the way
    sweep = made_sweep(tmp_path, trials=8)
    study, told = run(sweep)
    assert states(study) == ["COMPLETE"] * 8 and told.begun == [5, 6, 7]
    assert set(attempts(tmp_path / "log-a").values()) == {1}
    (best,) = write_results(sweep, study)
    assert best_values(sweep) == best.params and best.value == max(trial.value for trial in study.trials)
    assert sweep.params_of(best_values(sweep)).train_headgas.learning_rate == best.params[LEARNING_RATE]
    shares = importance(study)["psnr"]
    assert shares.keys() == sweep.space.keys() and sum(shares.values()) == pytest.approx(1.0, abs=1e-3)
    choose_trial(sweep, 3)
    assert best_values(sweep) == study.trials[3].params
    with pytest.raises(SweepError, match="no complete trial 99"):
        choose_trial(sweep, 99)


def test_one_slot_and_one_seed_give_the_same_trials(run: Any, tmp_path: Path) -> None:
    pruning = {"kind": "median", "startup_trials": 2, "reports": 3, "warmup_reports": 0}
    sweep = made_sweep(tmp_path, trials=8, pruning=pruning)
    (first, _), (second, _) = run(sweep, journal="a"), run(sweep, journal="b")
    facts = [[(trial.params, trial.state, trial.value) for trial in study.trials] for study in (first, second)]
    assert facts[0] == facts[1]


@pytest.mark.parametrize("kind", ["median", "asha"])
def test_pruning_ends_the_worse_trials_early(run: Any, tmp_path: Path, kind: str) -> None:
    options = {"startup_trials": 2, "warmup_reports": 0} if kind == "median" else {"reduction_factor": 2}
    sweep = made_sweep(tmp_path, trials=10, pruning={"kind": kind, "reports": 3, **options})
    study, told = run(sweep)
    pruned = [trial for trial in study.trials if trial.state == TrialState.PRUNED]
    assert pruned and all(len(trial.intermediate_values) < 3 or kind == "median" for trial in pruned)
    best = max(study.trials, key=lambda trial: made.quality(trial.params))
    assert best.state == TrialState.COMPLETE and best_trials(study) == [best]
    assert told.ended[pruned[0].number].user_attrs[RESULT]["watched"][0]["step"] == 25


def test_a_worker_that_dies_or_raises_is_tried_again_and_its_trial_is_the_same(run: Any, tmp_path: Path) -> None:
    sweep = made_sweep(tmp_path, trials=6, slots={"num_cpus": 1.0, "count": 2})
    study, _ = run(sweep, {1: "die", 3: "raise"})
    assert states(study) == ["COMPLETE"] * 6
    assert attempts(tmp_path / "log-a") == {0: 1, 1: 2, 2: 1, 3: 2, 4: 1, 5: 1}
    assert study.trials[1].value == made.quality(study.trials[1].params) and len(study.trials[1].intermediate_values) == 3


def test_a_trial_that_has_no_figure_fails_and_costs_itself(run: Any, tmp_path: Path) -> None:
    study, told = run(made_sweep(tmp_path, trials=3), {1: "nan"})
    assert states(study) == ["COMPLETE", "FAIL", "COMPLETE"]
    assert told.ended[1].user_attrs[RESULT]["reason"] == "not_finite"


def test_a_machine_that_is_unfit_stops_the_sweep_and_no_trial_is_to_blame(run: Any, tmp_path: Path) -> None:
    sweep = made_sweep(tmp_path, trials=4)
    with pytest.raises(RunStopped, match="no CUDA code on this machine"):
        run(sweep, {1: "unfit"})
    study = open_study(sweep, open_storage("a.journal"), {"ann": "1"})
    assert states(study) == ["COMPLETE", "RUNNING"] and requeue_orphans(study, sweep) == [1]
    study, _ = run(sweep, {1: "unfit"})  # on a machine that is fit: its first attempt is over
    assert states(study) == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE", "COMPLETE"]


def test_a_worker_that_cannot_start_stops_the_sweep(run: Any, tmp_path: Path) -> None:
    with pytest.raises(RunStopped, match="a worker of trials cannot start: .*no tracks"):
        run(made_sweep(tmp_path), make=unable)


def test_a_sweep_whose_trials_all_fail_gives_up(run: Any, tmp_path: Path) -> None:
    sweep = made_sweep(tmp_path, trials=20)
    with pytest.raises(SweepError, match="5 trials failed and none succeeded; the last: .*nan"):
        run(sweep, dict.fromkeys(range(20), "nan"))
    study = open_study(sweep, open_storage("a.journal"), {"ann": "1"})
    assert not write_results(sweep, study) and not result_files(sweep.path).best.exists()


def test_several_objectives_leave_a_front(run: Any, tmp_path: Path) -> None:
    sweep = made_sweep(tmp_path, trials=12, objectives=["psnr", "avatar_bytes", "render_fps"])
    study, _ = run(sweep)
    front = write_results(sweep, study)
    assert len(front) > 1 and best_values(sweep) == front[0].params

    def better(a: FrozenTrial, b: FrozenTrial) -> bool:
        first, second = ([row.values[0], -row.values[1], row.values[2]] for row in (a, b))
        return first != second and all(x >= y for x, y in zip(first, second, strict=True))

    assert {trial.number for trial in front} == {
        trial.number for trial in study.trials if not any(better(other, trial) for other in study.trials)
    }
