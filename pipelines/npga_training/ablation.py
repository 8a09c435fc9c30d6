"""NPGA's table: its ablations and its peers on the same frames, as changes of params."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines import tables
from pipelines.ablation import JudgeTrained
from pipelines.evaluation import LPIPS
from pipelines.fanout import FanOutResult, Step
from pipelines.judging import METRICS_SCHEMA, judging_step
from pipelines.methods import HEADGAS, NPGA, Method
from pipelines.npga_training.items import npga_step
from pipelines.params import Catalog, Params
from pipelines.training_items import training_step

FIGURES = ("psnr", "ssim", *LPIPS[:1])
RESETS = 16
"""Hard resets of opacity in a training with default density control: the paper's 800,000 steps have one every 50,000."""

Frame = tuple[str, int]
"""A clip, and the frame's index in it."""


@dataclass(frozen=True)
class Preset:
    """A row: what it is called, its method, what it changes there, and what the paper found (self-reenactment, dB)."""

    label: str
    method: Method
    changes: Mapping[str, Any] = field(default_factory=dict)
    papers_psnr: float | None = None


PRESETS: dict[str, Preset] = {
    "vanilla": Preset("vanilla", NPGA, {"variant": "vanilla", "lambda_laplacian": 0.0}, 30.16),
    "features": Preset("+ features", NPGA, {"variant": "no_screen", "lambda_laplacian": 0.0}, 30.54),
    "laplacian": Preset("+ Laplacian", NPGA, {"variant": "no_screen"}, 30.56),
    "full": Preset("NPGA", NPGA, {"variant": "full"}, 30.65),
    "default_density": Preset("default density", NPGA, {"variant": "full", "gradient_power": 1.0}, 30.49),
    "rigged": Preset("rigged, neural head", NPGA, {"variant": "rigged"}),
    "rigged_linear": Preset("rigged, linear head", HEADGAS, {"variant": "rigged"}),
    "headgas": Preset("HeadGaS", HEADGAS, {"variant": "full"}),
}
"""The paper's ablations in its order, then the peers. Its figures are means over three of NeRSemble's participants."""


def with_preset(params: Params, name: str, steps: int = 0) -> Params:
    """Params for one row; `steps` of training, or the file's own for 0. Peers see pictures as NPGA does."""
    preset, pictures = PRESETS[name], params.train_npga
    trained = preset.method.options(params)
    own = trained.model_dump() | {"resolution": pictures.resolution, "background": pictures.background} | dict(preset.changes)
    own |= {"steps": steps} if steps else {}
    if name == "default_density":
        own["density"] |= {"decay": 1.0, "reset_every": max(1, own["steps"] // RESETS)}
    return params.model_copy(update={preset.method.trained_with: type(trained).model_validate(own)})


def steps_of(name: str, params: Params) -> list[Step]:
    """A row trains, then judges."""
    method = PRESETS[name].method
    if method is NPGA:
        return [npga_step(params), judging_step("judge_npga", JudgeTrained, NPGA, params)]
    return [training_step(params), judging_step("judge_headgas", JudgeTrained, HEADGAS, params)]


def kinds_of(segments: pa.Table, catalog: pa.Table, options: Catalog) -> dict[str, str]:
    """What is new in a clip's held-out frames: its camera, its sequence, both, or nothing but the time."""
    rows = {row["clip_id"]: row for row in catalog.select(["clip_id", "camera_id", "sequence"]).to_pylist()}
    found = {}
    for segment in segments.select(["clip_id", "catalog_clip_id"]).to_pylist():
        row = rows[segment["catalog_clip_id"]]
        camera, sequence = row["camera_id"] in options.held_out_cameras, row["sequence"] in options.held_out_sequences
        found[segment["clip_id"]] = {
            (False, False): "last frames", (True, False): "new camera", (False, True): "new sequence", (True, True): "both new",
        }[camera, sequence]  # fmt: skip
    return found


def kinds_here(options: Catalog) -> dict[str, str]:
    """The kinds of this project's segments."""
    segments = tables.read_table(NPGA.tracks / "segments.parquet", tables.SEGMENTS)
    catalog = tables.read_table(Path("data/catalog/catalog.parquet"), tables.CATALOG)
    return kinds_of(segments, catalog, options)


def frames_of(result: FanOutResult) -> dict[str, dict[Frame, dict[str, float]]]:
    """By subject, the figures of each frame that was judged."""
    found = {}
    for subject in result.entries:
        rows = result.last(subject).read_table("metrics").cast(METRICS_SCHEMA).to_pylist()
        found[subject] = {
            (row["clip_id"], row["frame"]): {name: row[name] for name in FIGURES if row[name] is not None} for row in rows
        }
    return found


def means_of(
    rows: Sequence[Mapping[str, Mapping[Frame, Mapping[str, float]]]], kinds: Mapping[str, str]
) -> list[dict[str, dict[str, float]]]:
    """For each row, by kind: the means over the subjects of their means, over the subjects and frames that all rows have."""
    subjects = set.intersection(*(set(row) for row in rows)) if rows else set()
    shared = {subject: sorted(set.intersection(*(set(row[subject]) for row in rows))) for subject in sorted(subjects)}
    found = []
    for row in rows:
        means: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        for subject, frames in shared.items():
            of_kind: dict[str, list[Frame]] = defaultdict(list)
            for frame in frames:
                of_kind[kinds[frame[0]]].append(frame)
            for kind, own in of_kind.items():
                for name in row[subject][own[0]]:
                    means[kind][name].append(float(np.mean([row[subject][frame][name] for frame in own])))
        found.append({kind: {name: float(np.mean(values)) for name, values in own.items()} for kind, own in means.items()})
    return found
