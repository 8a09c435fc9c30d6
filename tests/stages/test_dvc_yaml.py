"""dvc.yaml and the repository that it lies in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]


def cached_outs() -> list[Path]:
    """Outs, metrics and plots that lie in DVC's cache, not in git."""
    found: list[Path] = []
    stages: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    for stage in stages.values():
        for entry in (entry for kind in ("outs", "metrics", "plots") for entry in stage.get(kind, [])):
            for path, options in (entry if isinstance(entry, dict) else {entry: {}}).items():
                if options.get("cache", True):
                    found.append(Path(path))
    return found


def test_git_ignores_all_that_dvc_keeps_so_that_a_run_leaves_the_tree_clean() -> None:
    """DVC adds such a line itself, to the .gitignore of the out's own folder, where it is missing."""
    assert Path("models/headgas") in cached_outs()
    for out in cached_outs():
        assert f"/{out.name}" in (ROOT / out.parent / ".gitignore").read_text().splitlines(), out
