"""When a trial reports, what its curve is, and that a trial that was stopped goes on from its last report."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.cache import Cache, Entry
from pipelines.params import Params
from pipelines.sweeps.judging import Yardstick
from pipelines.sweeps.protocol import Finished, TrialTask, Watched
from pipelines.sweeps.trial import HeadGasTrials, Setup, mean_curve, report_steps
from pipelines.training import CURVE_EVERY, Training
from tests.pipelines.formats.made import write_project


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


def params() -> Params:
    """Trials of 75 steps, without a checkpoint of training's own on the way."""
    train = {"steps": 75, "num_gaussians": 200, "resolution": 48, "probes": 0, "checkpoint_every": 1000}
    source = {"kind": "folder", "path": "raw", "watch": "raw"}
    return Params.model_validate({"source": source, "train_headgas": train, "evaluate": {"max_frames": 2}})


def trials(cache: Path) -> HeadGasTrials:
    """What a fresh worker builds: trials that report at steps 25 and 50."""
    return HeadGasTrials(Setup(params(), ("ann",), 2, 2, True, False, Path("work"), str(cache)))


def test_a_trial_that_was_stopped_goes_on_from_its_last_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    task = TrialTask(0, {"train_headgas.learning_rate": 0.01})
    *reports, whole = trials(tmp_path / "undisturbed")(task)
    assert [seen.step for seen in reports if isinstance(seen, Watched)] == [25, 50] and isinstance(whole, Finished)

    judge, begun = Yardstick.judge, 0

    def stopped_at_step_50(*words: object) -> object:
        nonlocal begun
        begun += 1
        if begun == 2:
            raise KeyboardInterrupt
        return judge(*words)  # type: ignore[arg-type]

    monkeypatch.setattr(Yardstick, "judge", stopped_at_step_50)
    with pytest.raises(KeyboardInterrupt):
        list(trials(tmp_path / "disturbed")(task))

    steps: list[int] = []
    one_step = Training.one_step
    monkeypatch.setattr(Training, "one_step", lambda training: steps.append(training.step) or one_step(training))
    *rest, again = trials(tmp_path / "disturbed")(task)
    assert steps == [*range(50, 75)] and [seen.step for seen in rest if isinstance(seen, Watched)] == [50]
    assert isinstance(again, Finished) and again.curve == whole.curve
    assert {**again.figures, "render_fps": 0} == {**whole.figures, "render_fps": 0}
    kept = Cache(str(tmp_path / "disturbed")).find(again.entry)
    assert isinstance(kept, Entry) and [row[1] for row in kept.summary["watched"]] == [25, 50]


def test_a_trial_that_was_pruned_leaves_nothing_to_go_on_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    trial = trials(tmp_path / "cache")(TrialTask(0, {}))
    next(trial)
    assert {path.name for path in (tmp_path / "cache").rglob("*.*")} >= {"checkpoint.pt", "watched.json"}
    trial.close()  # type: ignore[attr-defined]
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
