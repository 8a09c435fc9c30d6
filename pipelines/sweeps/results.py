"""What a sweep leaves for people, for `dvc repro` and for the report: two files beside its own.

NAME.best.yaml     the best trial's values, a piece of params.yaml
NAME.trials.json   every trial's values and figures, and how much each parameter matters
"""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from ruamel.yaml import YAML

from pipelines.atomic import write_bytes_atomic
from pipelines.dotted import flatten
from pipelines.sweeps.config import DIRECTIONS, Sweep, SweepError
from pipelines.sweeps.study import RESULT, settled_trials
from pipelines.yaml_files import YamlFileError, read_yaml

FOR_IMPORTANCE = 4
"""Complete trials below which a parameter's importance is a guess."""


@dataclass(frozen=True)
class ResultFiles:
    best: Path
    trials: Path


def result_files(sweep_path: Path) -> ResultFiles:
    return ResultFiles(sweep_path.with_suffix(".best.yaml"), sweep_path.with_suffix(".trials.json"))


def best_trials(study: optuna.Study) -> list[FrozenTrial]:
    """The best trial; of several objectives the Pareto front, best of the first objective first."""
    return ranked_trials(study)[:1] if len(study.directions) == 1 else ranked_trials(study)


def ranked_trials(study: optuna.Study) -> list[FrozenTrial]:
    """Complete trials, of several objectives those of the Pareto front; best of the first objective first."""
    complete = [trial for trial in settled_trials(study) if trial.state == TrialState.COMPLETE]
    if complete and len(study.directions) > 1:
        complete = study.best_trials
    maximise = study.directions[0] == optuna.study.StudyDirection.MAXIMIZE
    return sorted(complete, key=lambda trial: (-trial.values[0] if maximise else trial.values[0], trial.number))


def importance(study: optuna.Study) -> dict[str, dict[str, float]]:
    """For each objective: the share of its variance that each parameter explains, largest first.

    Functional ANOVA over random forests (Hutter et al. 2014), seeded. Empty for too few complete trials.
    """
    complete = [trial for trial in settled_trials(study) if trial.state == TrialState.COMPLETE]
    found: dict[str, dict[str, float]] = {}
    if len(complete) < FOR_IMPORTANCE:
        return found
    for place, name in enumerate(study.metric_names or []):
        if len({trial.values[place] for trial in complete}) == 1:
            continue

        def target(trial: FrozenTrial, place: int = place) -> float:
            return float(trial.values[place])

        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            shares = optuna.importance.get_param_importances(study, evaluator=evaluator, target=target)
        found[name] = {key: round(share, 4) for key, share in shares.items()}
    return found


def write_results(sweep: Sweep, study: optuna.Study) -> list[FrozenTrial]:
    """Writes both files; returns the best trials. Without a complete trial there is no best, and only the second file."""
    files, best = result_files(sweep.path), best_trials(study)
    if best:
        write_best(
            sweep, best[0].number, best[0].params, dict(zip(map(str, sweep.file.objectives), best[0].values, strict=True))
        )
    facts = {
        "study": sweep.name,
        "objectives": [{"name": name, "direction": DIRECTIONS[name]} for name in sweep.file.objectives],
        "parameters": list(sweep.space),
        "best": [trial.number for trial in best],
        "importance": importance(study),
        "trials": [trial_row(trial) for trial in settled_trials(study)],
    }
    write_bytes_atomic(files.trials, (json.dumps(facts, indent=1) + "\n").encode())
    return best


def trial_row(trial: FrozenTrial) -> dict[str, Any]:
    result = trial.user_attrs.get(RESULT, {})
    row = {
        "number": trial.number,
        "state": trial.state.name.lower(),
        "values": {name: trial.params[name] for name in sorted(trial.params)},
        "figures": result.get("figures", {}),
    }
    return row | {name: result[name] for name in ("stopped_at", "reason", "message") if name in result}


def write_best(sweep: Sweep, number: int, values: Mapping[str, Any], figures: Mapping[str, float]) -> None:
    """Writes a trial's values as a piece of params.yaml."""
    blocks: dict[str, Any] = {}
    for key in sorted(values):
        *parents, last = key.split(".")
        block = blocks
        for part in parents:
            block = block.setdefault(part, {})
        block[last] = values[key]
    text = io.StringIO()
    told = ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
    text.write(f"# Trial {number} of study {sweep.name}: {told}. To use it: headwater sweep {sweep.path} --apply, dvc repro\n")
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.dump(blocks, text)
    write_bytes_atomic(result_files(sweep.path).best, text.getvalue().encode())


def choose_trial(sweep: Sweep, number: int) -> None:
    """Makes a finished trial the one in NAME.best.yaml. Raises SweepError."""
    path = result_files(sweep.path).trials
    if not path.exists():
        raise SweepError(f"{path}: not found; run `headwater sweep {sweep.path}` first")
    facts = json.loads(path.read_text())
    rows = {row["number"]: row for row in facts["trials"] if row["state"] == "complete"}
    if number not in rows:
        raise SweepError(f"study {sweep.name} has no complete trial {number}; it has {', '.join(map(str, rows)) or 'none'}")
    figures = {str(name): float(rows[number]["figures"][name]) for name in sweep.file.objectives}
    write_best(sweep, number, rows[number]["values"], figures)


def best_values(sweep: Sweep) -> dict[str, Any]:
    """The dotted values in NAME.best.yaml. Raises SweepError."""
    path = result_files(sweep.path).best
    try:
        blocks = read_yaml(path)
    except FileNotFoundError:
        raise SweepError(f"{path}: not found; run `headwater sweep {sweep.path}` first") from None
    except YamlFileError as error:
        raise SweepError(str(error)) from None
    if not isinstance(blocks, Mapping):
        raise SweepError(f"{path}: a mapping of blocks was expected")
    return flatten(blocks)
