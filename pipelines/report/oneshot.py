"""The one-shot model's part of the page: its figures beside those of methods without training, and film strips."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipelines.csim_asset import read_csim_record
from pipelines.oneshot.evaluation import METHODS
from pipelines.report.embed import data_uri
from pipelines.report.figures import FACES, PICTURES, known_in, written

METRICS, EVALUATION = Path("metrics/evaluate_oneshot.json"), Path("data/evaluation_oneshot")


def oneshot_section(most: int) -> dict[str, Any] | None:
    """Rows by kind of reenactment, and the strips of the first test subjects; None where nobody was judged."""
    figures = json.loads(METRICS.read_text())
    strips = sorted((EVALUATION / "self").glob("*.png"))
    if not strips:
        return None
    csim = read_csim_record(EVALUATION)
    there = known_in((*PICTURES, *FACES), [means for kind in figures.values() for means in kind.values()], csim)
    tables = {
        kind: [(method, [written(figures[kind][method], key, how) for key, _, how in there]) for method in METHODS]
        for kind in ("self", "cross")
        if any(figures[kind].values())
    }
    return {
        "names": [name for _, name, _ in there],
        "tables": tables,
        "strips": [(path.name.removesuffix(".png"), data_uri(path, "image/png")) for path in strips[:most]],
        "methods": METHODS,
        "csim": csim,
    }
