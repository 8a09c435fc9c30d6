"""The one-shot model's part of the page: its figures beside those of methods without training, and film strips."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from pipelines.oneshot.evaluation import METHODS

METRICS, STRIPS = Path("metrics/evaluate_oneshot.json"), Path("data/evaluation_oneshot/self")
FIGURES = (
    ("psnr", "PSNR", "{:.2f}"), ("ssim", "SSIM", "{:.4f}"), ("lpips", "LPIPS", "{:.3f}"), ("akd", "AKD, pixels", "{:.2f}"),
    ("aed", "AED", "{:.4f}"), ("apd", "APD", "{:.4f}"), ("csim", "CSIM", "{:.3f}"),
    ("mouth_correlation", "mouth correlation", "{:.2f}"), ("no_face_made", "frames without a face", "{:.0f}"),
)  # fmt: skip
"""Key, what the page calls it, and how it is written."""


def oneshot_section(most: int) -> dict[str, Any] | None:
    """Rows by kind of reenactment, and the strips of the first test subjects; None where nobody was judged."""
    figures = json.loads(METRICS.read_text())
    strips = sorted(STRIPS.glob("*.png"))
    if not strips:
        return None
    there = [one for one in FIGURES if any(one[0] in means for kind in figures.values() for means in kind.values())]
    tables = {
        kind: [(method, [written(figures[kind][method], key, how) for key, _, how in there]) for method in METHODS]
        for kind in ("self", "cross")
        if any(figures[kind].values())
    }
    return {
        "names": [name for _, name, _ in there],
        "tables": tables,
        "strips": [
            (path.name.removesuffix(".png"), f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}")
            for path in strips[:most]
        ],
        "methods": METHODS,
    }


def written(means: dict[str, float], key: str, how: str) -> str:
    return how.format(means[key]) if key in means else ""
