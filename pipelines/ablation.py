"""HeadGaS's table of ablations: its rows as changes of params, and how an avatar that lies in the cache is judged."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from avatar_models.avatar import FACTS, TENSORS, load_avatar
from pipelines.cache import Entry, EntryWriter
from pipelines.csim_asset import CsimFile
from pipelines.evaluation import LPIPS
from pipelines.faces import FACE_MEANS
from pipelines.fanout import FanOutResult, Item, Step
from pipelines.judging import METRICS_SCHEMA, JudgeAvatar, judging_step
from pipelines.lpips_asset import LpipsFiles
from pipelines.methods import HEADGAS, Method
from pipelines.params import Params


@dataclass(frozen=True)
class Preset:
    """A row of the table: what the paper calls it, what it changes in train_headgas, and what the paper found (PSNR in dB)."""

    label: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    papers_psnr: float | None = None


PRESETS: dict[str, Preset] = {
    "no_blending": Preset("w/o blending", {"variant": "no_blending"}, 30.28),
    "delta_geometry": Preset("delta mu, R", {"variant": "delta_geometry"}, 29.83),
    "change_all": Preset("change all", {"variant": "change_all"}, 29.65),
    "no_mlp": Preset("w/o MLP", {"variant": "no_mlp"}, 32.08),
    "no_perceptual": Preset("w/o L_p", {"lambda_perceptual": 0.0}, 32.11),
    "full": Preset("HeadGaS", {"variant": "full"}, 32.50),
    "rigged": Preset("rigged", {"variant": "rigged"}),
}
"""In the paper's order, then what goes beyond it. Its figures are means over INSTA's ten subjects."""
SHOWN = ("psnr", "ssim", "aligned_psnr", "aligned_ssim", "aligned_matte_psnr", "aligned_matte_ssim")
"""What the table has of each row: in the tracked poses, and in poses that fit the avatar."""


def with_preset(params: Params, name: str, steps: int = 0) -> Params:
    """Params for one row; `steps` of training, or the file's own for 0."""
    own = params.train_headgas.model_dump() | {"variant": "full"} | dict(PRESETS[name].changes)
    own |= {"steps": steps} if steps else {}
    return params.model_copy(update={"train_headgas": type(params.train_headgas).model_validate(own)})


class JudgeTrained:
    """Judges the avatar that the step before trained, on its subject's held-out frames."""

    def __init__(
        self,
        method: Method,
        params: Mapping[str, Any],
        lpips_files: LpipsFiles | None = None,
        csim_file: CsimFile | None = None,
    ) -> None:
        self.judge = JudgeAvatar(method, params, lpips_files, csim_file)

    def __call__(self, item: Item, upstream: Entry | None, out: EntryWriter) -> dict[str, Any]:
        assert upstream is not None
        with tempfile.TemporaryDirectory() as folder:
            for name in (TENSORS, FACTS):
                upstream.copy_to(name, Path(folder) / name)
            avatar, _ = load_avatar(Path(folder), self.judge.device)
        return self.judge.own(avatar, item.id, out)


def judge_step(params: Params) -> Step:
    return judging_step("judge_headgas", JudgeTrained, HEADGAS, params)


def figures_of(result: FanOutResult) -> dict[str, dict[str, float]]:
    """By subject, over the held-out frames: SHOWN, LPIPS where it is on, what faces tell, and the mean squared error that the
    paper calls L2.
    """
    found = {}
    for subject in result.entries:
        entry = result.last(subject)
        table = entry.read_table("metrics").cast(METRICS_SCHEMA)
        shown = (*SHOWN, *(name for name in LPIPS if not table[name].null_count))
        figures = {name: np.array(table[name], np.float64) for name in shown}
        l2 = 10 ** (-figures["psnr"] / 10)
        faces = {name: entry.summary[name] for name in FACE_MEANS if entry.summary.get(name) is not None}
        found[subject] = {"l2": float(l2.mean()), **{name: float(values.mean()) for name, values in figures.items()}, **faces}
    return found
