"""NPGA's table: its ablations and its peers, judged on the same frames, as changes of params."""

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
from pipelines.fanout import FanOutResult, Item, Step
from pipelines.judging import METRICS_SCHEMA, judging_step
from pipelines.methods import HEADGAS, NPGA, Method
from pipelines.npga_training.items import npga_step
from pipelines.params import Catalog, Params
from pipelines.subject import CATALOG_FILE
from pipelines.training_items import training_items, training_step

FIGURES = ("psnr", "ssim", *LPIPS[:1])
RESET_SHARE, LEAST_BETWEEN_RESETS = 1 / 16, 3000
"""Between two hard resets of opacity with default density control: the paper's 50,000 of 800,000 steps, and never fewer than
3DGS's, since opacities take hundreds to come back. The gradient above which a Gaussian grows stays: it is twice 3DGS's for the
two losses, which are the same."""


class StaleTables(ValueError):
    """Tables that do not belong together; the message says what to run."""


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


def with_preset(params: Params, name: str) -> Params:
    """Params for one row. Peers see pictures as NPGA does. Raises ValidationError where they are larger than what is stored."""
    preset, pictures = PRESETS[name], params.train_npga
    trained = preset.method.options(params)
    own = trained.model_dump() | {"resolution": pictures.resolution, "background": pictures.background} | dict(preset.changes)
    if name == "default_density":
        every, between = own["density"]["every"], max(LEAST_BETWEEN_RESETS, RESET_SHARE * own["steps"])
        own["density"] |= {"decay": 1.0, "reset_every": every * max(1, round(between / every))}
    return Params.model_validate(params.model_dump() | {preset.method.trained_with: own})


def items_of(name: str, subjects: Sequence[str], root: Path = Path()) -> list[Item]:
    """The row's subjects; each depends on the tracks that its method reads."""
    tracked = training_items(root, PRESETS[name].method.tracks)
    return [item for item in tracked if item.id in subjects]


def steps_of(name: str, params: Params) -> list[Step]:
    """A row trains, then judges."""
    method = PRESETS[name].method
    if method is NPGA:
        return [npga_step(params), judging_step("judge_npga", JudgeTrained, NPGA, params)]
    return [training_step(params), judging_step("judge_headgas", JudgeTrained, HEADGAS, params)]


def kinds_of(segments: pa.Table, catalog: pa.Table, options: Catalog) -> dict[str, str]:
    """What is new in a clip's held-out frames: its camera, its sequence, both, or nothing but the time.

    Raises StaleTables where the catalog, the tracks and params.yaml are not of one run.
    """
    rows = {row["clip_id"]: row for row in catalog.select(["clip_id", "camera_id", "sequence"]).to_pylist()}
    found = {}
    for segment in segments.select(["clip_id", "catalog_clip_id", "split"]).to_pylist():
        row = rows.get(segment["catalog_clip_id"])
        if row is None:
            raise StaleTables(
                f"{segment['clip_id']} is tracked and not in the catalog any more; `dvc repro` brings both together"
            )
        camera, sequence = row["camera_id"] in options.held_out_cameras, row["sequence"] in options.held_out_sequences
        if (camera or sequence) and segment["split"] != "test":
            raise StaleTables(
                f"catalog.held_out_cameras or held_out_sequences has {segment['clip_id']}, which is trained on; run `dvc repro`"
            )
        found[segment["clip_id"]] = {
            (False, False): "last frames", (True, False): "new camera", (False, True): "new sequence", (True, True): "both new",
        }[camera, sequence]  # fmt: skip
    return found


def kinds_here(options: Catalog) -> dict[str, str]:
    """The kinds of this project's segments. Raises StaleTables."""
    segments = tables.read_table(NPGA.tracks / "segments.parquet", tables.SEGMENTS)
    catalog = tables.read_table(CATALOG_FILE, tables.CATALOG)
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
