"""What a stage that trains one model leaves, whatever the model is."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines import tables
from pipelines.atomic import write_bytes_atomic
from pipelines.curve_file import write_curve
from pipelines.fanout import FanOutResult


@dataclass(frozen=True)
class ModelOuts:
    """Where they go."""

    model: Path  # a folder
    metrics: Path
    curve: Path

    def write(self, result: FanOutResult, files: Sequence[str]) -> list[dict[str, float]]:
        """Writes the model's files, its figures and its curve, if one was trained, and says the figures; returns the curve."""
        tables.write_table(result.quarantine_table(), tables.QUARANTINE, self.model / "quarantine.parquet")
        curve: list[dict[str, float]] = []
        figures: Mapping[str, Any] = {}
        for name in result.entries:
            entry = result.last(name)
            for file in files:
                entry.copy_to(file, self.model / file)
            curve, figures = json.loads(entry.read_bytes("curve.json")), entry.summary
        write_bytes_atomic(self.metrics, (json.dumps(figures, indent=1, sort_keys=True) + "\n").encode())
        write_curve(self.curve, curve)
        numbers = {name: value for name, value in sorted(figures.items()) if isinstance(value, (int, float))}
        if numbers:
            print(f"{self.model}: {', '.join(f'{name} {value:.5g}' for name, value in numbers.items())}", flush=True)
        return curve
