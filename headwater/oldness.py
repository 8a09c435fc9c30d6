"""Which stages' outs are older than what they were made of, told from dvc.yaml, dvc.lock and params.yaml alone.

No file is hashed, so it is not seen when videos or code have changed: `dvc status` looks at those too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pipelines.dotted import get_dotted
from pipelines.params import PARAMS_FILE


def is_old(locked: Mapping[str, Any], digests: Mapping[str, str], values: Mapping[str, Any]) -> bool:
    """Whether a stage's entry in dvc.lock names other parameters than params.yaml's `values`, or another digest of a
    dependency than the stage that makes it (`digests`: path -> digest of all stages' outs).
    """
    params = locked.get("params", {}).get(str(PARAMS_FILE), {})
    if any(get_dotted(values, key) != value for key, value in params.items()):
        return True
    return any(digests.get(path, digest) != digest for path, digest in digests_of(locked.get("deps", [])))


def out_digests(locked: Mapping[str, Any]) -> dict[str, str]:
    """path -> digest of what all stages of dvc.lock have left."""
    return {path: digest for stage in locked.values() for path, digest in digests_of(stage.get("outs", []))}


def digests_of(entries: list[Any]) -> Iterator[tuple[str, str]]:
    """(path, digest) of dvc.lock's deps or outs."""
    return ((entry["path"], entry["md5"]) for entry in entries if "md5" in entry)


def stages_before(name: str, stages: Mapping[str, Any]) -> list[str]:
    """The stages of dvc.yaml that make a dependency of this one."""
    needed = set(stages[name].get("deps", []))
    return [other for other, declared in stages.items() if needed & set(made_by(declared))]


def made_by(declared: Mapping[str, Any]) -> Iterator[str]:
    """Paths of a stage's outs, metrics and plots in dvc.yaml; one with options is a mapping {path: options}."""
    for kind in ("outs", "metrics", "plots"):
        for entry in declared.get(kind, []):
            yield from entry if isinstance(entry, dict) else [entry]
