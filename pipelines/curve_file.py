"""A training's curve as the CSV file that DVC plots."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipelines.atomic import write_bytes_atomic


def write_curve(path: Path, curve: Sequence[Mapping[str, float]]) -> None:
    """A row for each point; a figure that a point has not is empty. Without points the file has a header alone."""
    names = list(dict.fromkeys(name for point in curve for name in point)) or ["step", "loss"]
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(curve)
    write_bytes_atomic(path, text.getvalue().encode())
