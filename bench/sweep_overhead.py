"""What a sweep costs over its trials' own time: 20 trials of HeadGaS on the demo's people, start and end included.

python -m bench.sweep_overhead [SLOTS [STEPS [TRIALS]]]

The trials' own time is what their workers spent on them, from loading the frames to the held-out figures. Everything else
is the sweep's: starting Python, Ray, the workers and MLflow, Optuna's draws and its journal, the runs in MLflow, importance
and the files, and slots that wait, which is told apart: near the end there may be fewer trials left than slots.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path

import yaml

from bench.workspace import make_workspace

SOURCE = {"source.kind": "procedural", "source.path": "demo/people.yaml", "source.watch": "demo/people.yaml"}
PROGRAM = """
import json
from pathlib import Path
from pipelines.params import load_params
from pipelines.sweeps.config import load_sweep
from pipelines.sweeps.study import RESULT, settled_trials
from pipelines.sweeps.sweep import run_sweep
params = load_params()
result = run_sweep(load_sweep(Path("sweeps/bench.yaml"), params), params)
trials = settled_trials(result.study)
facts = {"states": [trial.state.name for trial in trials], "slots": result.slots,
         "own": [trial.user_attrs[RESULT]["seconds"] for trial in trials],
         "last_ends": sorted(trial.datetime_complete.timestamp() for trial in trials)[-result.slots:]}
Path("facts.json").write_text(json.dumps(facts))
"""


def main() -> None:
    slots, steps, trials = (int(word) for word in (sys.argv[1:] + ["1", "600", "20"][len(sys.argv) - 1 :]))
    with tempfile.TemporaryDirectory() as scratch:
        workspace = make_workspace(Path(scratch) / "project", SOURCE)
        print(f"{workspace.repro('preprocess').seconds:.0f} s for preprocess, which the sweep uses as it is", flush=True)
        sweep = yaml.safe_load((workspace.folder / "sweeps" / "headgas.yaml").read_text())
        sweep |= {"trials": trials, "slots": {"num_cpus": 1.0, "count": slots}, "fixed": {"train_headgas.steps": steps}}
        sweep.pop("pruning")  # a pruned trial's time is as much its own, but all at full length is plainer
        (workspace.folder / "sweeps" / "bench.yaml").write_text(yaml.safe_dump(sweep))
        (workspace.folder / "program.py").write_text(PROGRAM)
        start = time.perf_counter()
        run = workspace.run(sys.executable, "program.py")
        wall = time.perf_counter() - start
        if run.status:
            sys.exit(run.output)
        facts = json.loads((workspace.folder / "facts.json").read_text())
        own = sum(facts["own"])
        waits = sum(max(facts["last_ends"]) - end for end in facts["last_ends"])
        states = ", ".join(sorted(set(facts["states"]))).lower()
        print(f"{os.cpu_count()} cores, {slots} trials side by side, {len(facts['own'])} trials: {states}")
        print(f"the trials' own time: {own:.1f} s, {min(facts['own']):.1f} to {max(facts['own']):.1f} s a trial")
        print(f"the sweep from command to prompt: {wall:.1f} s")
        print(f"slots that wait for the last trial: {waits:.1f} s")
        spent = wall * slots
        print(f"over the trials' own time: {(spent - own) / own:.1%}; without that wait: {(spent - waits - own) / own:.1%}")


if __name__ == "__main__":
    main()
