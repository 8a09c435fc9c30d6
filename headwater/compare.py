"""Why two `dvc repro` runs differ: parameters, code, data, packages and model files first, then what came of it."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipelines.params import load_params
from pipelines.repro import KIND_TAG, PARENT_TAG, REPRO, children, search
from pipelines.runs import STAGE_TAG
from pipelines.tracking import connect

CAUSES = ("params", "code", "data", "packages", "assets")
DIGEST = 12  # characters of a digest that tell two apart
ENVIRONMENT = "environment.json"


class CompareError(ValueError):
    """A run that cannot be found or is not unique; the message lists what there is."""


@dataclass
class Facts:
    """What is known of one run, by kind: name -> value."""

    name: str
    causes: dict[str, dict[str, str]] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    stages: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Comparison:
    first: Facts
    second: Facts


def compare_runs(first: str, second: str) -> Comparison:
    """Reads both runs from MLflow. Raises CompareError, TrackingUnreachable."""
    params = load_params()
    client = connect(params)
    experiment_id = client.get_experiment_by_name(params.tracking.experiment).experiment_id
    newest_first = "attributes.start_time DESC"
    runs = list(search(client, experiment_id, f"tags.`{KIND_TAG}` = '{REPRO}'", newest_first))
    return Comparison(*(facts_of(client, experiment_id, pick(client, runs, word)) for word in (first, second)))


def pick(client: Any, runs: list[Any], word: str) -> Any:
    """The run with that id, start of an id, or name; for the id of a stage's or a subject's run, the `dvc repro` above it."""
    found = [run for run in runs if run.info.run_id.startswith(word) or run.info.run_name == word] if word else []
    if len(found) == 1:
        return found[0]
    if not found and (above := repro_above(client, word)):
        return above
    listed = "; ".join(f"{run.info.run_id[:8]} ({run.info.run_name})" for run in found or runs[:8]) or "none yet"
    if found:
        raise CompareError(f"{len(found)} runs are called {word!r}; name one by its id: {listed}")
    raise CompareError(f"no run called {word!r}. The newest are: {listed}")


def repro_above(client: Any, run_id: str) -> Any | None:
    """The `dvc repro` that a nested run belongs to, or None where there is no such run."""
    from mlflow import MlflowException

    try:
        run = client.get_run(run_id)
        while PARENT_TAG in run.data.tags:
            run = client.get_run(run.data.tags[PARENT_TAG])
    except MlflowException:
        return None
    return run if run.data.tags.get(KIND_TAG) == REPRO else None


def facts_of(client: Any, experiment_id: str, parent: Any) -> Facts:
    """Collects a parent run's causes, and the figures of its stages and subjects."""
    tags = parent.data.tags
    facts = Facts(f"{parent.info.run_id[:8]} ({parent.info.run_name})")
    facts.causes = {
        "params": dict(parent.data.params),
        "code": {"git commit": tags.get("mlflow.source.git.commit", "")[:DIGEST]} | named(tags, "headwater.code."),
        "packages": read_artifact(client, parent.info.run_id, ENVIRONMENT),
        "assets": named(tags, "headwater.asset."),
        "data": {},
    }
    for run in children(client, experiment_id, parent.info.run_id):
        stage = run.data.tags.get(STAGE_TAG, run.info.run_name)
        facts.stages.append(stage if run.info.status == "FINISHED" else f"{stage} ({run.info.status.lower()})")
        facts.metrics |= figures(run, stage)
        for given in run.inputs.dataset_inputs:
            facts.causes["data"][given.dataset.name] = given.dataset.digest[:DIGEST]
        for subject in children(client, experiment_id, run.info.run_id):
            facts.metrics |= figures(subject, f"{stage} {subject.info.run_name}")
    return facts


def named(tags: dict[str, str], prefix: str) -> dict[str, str]:
    """Tags with that prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in tags.items() if name.startswith(prefix)}


def figures(run: Any, whose: str) -> dict[str, float]:
    """A run's metrics, without those of the machine it ran on."""
    return {f"{whose}: {name}": value for name, value in run.data.metrics.items() if not name.startswith("system/")}


def read_artifact(client: Any, run_id: str, name: str) -> dict[str, str]:
    if name not in [artifact.path for artifact in client.list_artifacts(run_id)]:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        found = json.loads(Path(client.download_artifacts(run_id, name, folder)).read_text())
    return {str(key): str(value) for key, value in found.items()}


def differing(first: dict[str, Any], second: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """(name, first, second) of what is not the same in both."""
    return [
        (name, first.get(name), second.get(name))
        for name in sorted(first.keys() | second.keys())
        if first.get(name) != second.get(name)
    ]


def in_both(rows: list[tuple[str, Any, Any]]) -> list[tuple[str, Any, Any]]:
    """Rows that have a value on both sides."""
    return [row for row in rows if row[1] is not None and row[2] is not None]


def show_differences(console: Console, comparison: Comparison) -> None:
    """Prints causes, then effects."""
    first, second = comparison.first, comparison.second
    for run in (first, second):
        console.print(f"{run.name} ran {', '.join(run.stages) or 'no stage'}", highlight=False)
    rows = {kind: differing(first.causes.get(kind, {}), second.causes.get(kind, {})) for kind in CAUSES}
    rows["data"] = in_both(rows["data"])  # what only one of them read, because a stage ran there alone, explains nothing
    causes = [(kind, *row) for kind in CAUSES for row in rows[kind]]
    if causes:
        table = Table("why", "what", first.name, second.name)
        for kind, name, a, b in causes:
            table.add_row(kind, *(escape(cell) for cell in (name, short(a), short(b))))
        console.print(table)
    else:
        console.print("parameters, code, data, packages and model files are the same")
    effects = in_both(differing(first.metrics, second.metrics))
    table = Table("figure", first.name, second.name)
    for name, a, b in effects:
        table.add_row(*(escape(cell) for cell in (name, short(a), short(b))))
    if effects:
        console.print(table)
    else:
        console.print("all figures that both have are the same")


def short(value: Any) -> str:
    """A value as it fits into a table."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.5g}"
    return str(value) if len(str(value)) <= 48 else f"{str(value)[:45]}..."
