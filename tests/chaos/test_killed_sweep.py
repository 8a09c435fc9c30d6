"""SIGKILL of a sweep's driver, and of one of its workers: finished trials are kept, none is run again, the study completes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from pipelines.params import load_params
from pipelines.repro import KIND_TAG, PARENT_TAG, SWEEP, TRIAL
from pipelines.tracking import connect
from tests.chaos.victims import processes_below
from tests.pipelines.sweeps.made import attempts, sweep_file

ROOT = Path(__file__).resolve().parents[2]
TRIALS = 8
PROGRAM = """
import sys
from functools import partial
from pathlib import Path
import ray
from pipelines.params import load_params
from pipelines.sweeps.config import load_sweep
from pipelines.sweeps.sweep import run_sweep
from tests.pipelines.sweeps import made

ray.cloudpickle.register_pickle_by_value(made)
params = load_params()
sweep = load_sweep(Path("sweeps/made.yaml"), params)
result = run_sweep(sweep, params, make=partial(made.MadeUp, Path("log").absolute(), {5: "hang"}, 0.5), content={"ann": "1"})
print("KEPT", result.kept, "QUEUED", result.interrupted)
"""


def test_a_killed_driver_and_a_killed_worker_cost_no_finished_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "log").mkdir()
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "params.yaml").write_text("source: {kind: folder, path: videos, watch: videos}\n")
    sweep_file(tmp_path, trials=TRIALS, slots={"num_cpus": 1.0, "count": 2}, pruning={"kind": "median", "startup_trials": 6})
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("MLFLOW_TRACKING_URI", None)

    def driver() -> subprocess.Popen[str]:
        words = [sys.executable, "program.py"]
        return subprocess.Popen(words, cwd=tmp_path, env=environment, start_new_session=True, stdout=subprocess.PIPE, text=True)

    def wait_for(trials: int, process: subprocess.Popen[str]) -> None:
        while len(list((tmp_path / "log").iterdir())) < trials:
            time.sleep(0.02)
            assert process.poll() is None, process.communicate()

    first = driver()
    wait_for(3, first)
    processes_below(psutil.Process(first.pid), "TrialActor")[0].kill()
    wait_for(6, first)  # the sixth would never end
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    time.sleep(3)  # Ray's own processes notice that their driver is gone

    again = driver()
    output, _ = again.communicate(timeout=600)
    assert again.returncode == 0, output
    kept = int(output.split("KEPT ")[1].split()[0])
    queued = json.loads(output.split("QUEUED ")[1].splitlines()[0])
    assert kept >= 3 and 1 <= len(queued) <= 2

    facts = json.loads((tmp_path / "sweeps" / "made.trials.json").read_text())
    rows = facts["trials"]
    assert len(rows) == TRIALS and {row["state"] for row in rows} <= {"complete", "pruned"}
    assert not {row["number"] for row in rows} & set(queued)
    values = [json.dumps(row["values"], sort_keys=True) for row in rows]
    assert len(set(values)) == TRIALS  # no trial twice under two numbers
    tries = attempts(tmp_path / "log")
    assert sorted(count for number, count in tries.items() if number not in queued) in (
        [1] * (TRIALS - 1) + [2],  # one more attempt: the trial whose worker was killed
        [1] * TRIALS,  # it was one of those that the driver held as it died
    )

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    params = load_params()
    client = connect(params)
    experiment = client.get_experiment_by_name(params.tracking.experiment)

    def runs(kind: str) -> list:  # type: ignore[type-arg]
        return list(client.search_runs([experiment.experiment_id], f"tags.`{KIND_TAG}` = '{kind}'"))

    (parent,), trials = runs(SWEEP), runs(TRIAL)
    assert parent.info.status == "FINISHED"
    assert {run.data.tags[PARENT_TAG] for run in trials} == {parent.info.run_id}
    ended = {int(run.data.tags["headwater.trial"]): run for run in trials}
    assert len(ended) == len(trials)
    assert {number for number, run in ended.items() if run.info.status == "KILLED"} <= set(queued)
    for row in rows:
        run = ended[row["number"]]
        assert run.info.status == "FINISHED" and run.data.tags["headwater.trial.state"] == row["state"]
        shown = float(run.data.params["train_headgas.learning_rate"])
        assert shown == row["values"]["train_headgas.learning_rate"]
        steps = [point.step for point in client.get_metric_history(run.info.run_id, "watched_psnr")]
        assert steps and steps == sorted(set(steps))  # each once, also of a trial that two drivers had
