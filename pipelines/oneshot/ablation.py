"""The one-shot model's table of ablations: its rows as changes of params, and how a model that lies in the cache is judged."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from avatar_models.model_folder import FACTS, TENSORS
from pipelines.cache import Entry, EntryWriter
from pipelines.csim_asset import CsimFile, csim_assets, csim_file
from pipelines.fanout import Item, Step
from pipelines.keys import digest
from pipelines.lpips_asset import LpipsFiles, lpips_assets, lpips_files
from pipelines.oneshot.evaluation import VERSION, JudgeOneshot
from pipelines.oneshot.items import data_of, segments_of
from pipelines.oneshot.people import train_and_test
from pipelines.params import Params
from pipelines.splits import subjects_that_passed

Figures = Mapping[str, float | None]
"""Of a test subject; None where there is nothing to tell."""


@dataclass(frozen=True)
class Preset:
    """A row: what it is called, what it changes in train_oneshot, and what the paper found (PSNR in dB, SSIM, LPIPS)."""

    label: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    papers: tuple[float, float, float] | None = None


PRESETS: dict[str, Preset] = {
    "one_plane": Preset("one-plane lifting", {"variant": "one_plane"}, (21.34, 0.802, 0.158)),
    "no_global_feature": Preset("w/o global feature", {"variant": "no_global_feature"}, (21.13, 0.807, 0.155)),
    "no_renderer": Preset("w/o neural renderer", {"variant": "no_renderer"}, (20.34, 0.789, 0.138)),
    "no_lifting_loss": Preset("w/o lifting loss", {"lambda_lifting": 0.0}, (21.64, 0.812, 0.148)),
    "no_photo_colors": Preset("GAGAvatar", {"variant": "no_photo_colors"}, (21.83, 0.818, 0.122)),
    "full": Preset("with photo's colours", {"variant": "full"}),
}
"""In the paper's order (Table 3), then what goes beyond it, which the ablations have too. Its figures are VFHQ's."""


def with_preset(params: Params, name: str, steps: int = 0) -> Params:
    """Params for one row; `steps` of training, or the file's own for 0."""
    own = params.train_oneshot.model_dump() | {"variant": "full"} | dict(PRESETS[name].changes)
    own |= {"steps": steps} if steps else {}
    return params.model_copy(update={"train_oneshot": type(params.train_oneshot).model_validate(own)})


class JudgeTrained:
    """Judges a model that lies in the cache on one test subject per call: self-reenactment."""

    def __init__(
        self,
        params: Mapping[str, Any],
        model: Entry,
        lpips_files: LpipsFiles | None = None,
        csim_file: CsimFile | None = None,
    ) -> None:
        with tempfile.TemporaryDirectory() as folder:
            for name in (TENSORS, FACTS):
                model.copy_to(name, Path(folder) / name)
            self.judge = JudgeOneshot(params, lpips_files, csim_file, Path(folder))

    def __call__(self, item: Item, upstream: Entry | None, out: EntryWriter) -> Figures:
        return self.judge.figures(item.id)


def judged_items(params: Params, model: Entry, root: Path = Path()) -> list[Item]:
    """The test subjects. Raises ParamsError."""
    segments, content = segments_of(root), [model.files[name]["sha256"] for name in (TENSORS, FACTS)]
    subjects = judging_subjects(params, root)
    return [Item(subject, digest([content, data_of(segments, [subject])])) for subject in subjects]


def judge_step(params: Params, model: Entry) -> Step:
    """A step of JudgeTrained."""
    judge = partial(JudgeTrained, model=model, lpips_files=lpips_files(params), csim_file=csim_file(params.evaluate))
    assets = lpips_assets(params) | csim_assets(params.evaluate)
    return Step("judge_oneshot", VERSION, judge, {"max_frames": params.evaluate.max_frames}, params.compute.render, assets)


def judging_subjects(params: Params, root: Path = Path()) -> list[str]:
    """Who judges. Raises ParamsError."""
    return train_and_test(subjects_that_passed(segments_of(root)), params.train_oneshot.test_subjects)[1]


def means_of(figures: Mapping[str, Figures], subjects: Collection[str]) -> dict[str, float]:
    """Means over some of the subjects that were judged, of the figures that all of these have."""
    chosen = [figures[subject] for subject in subjects]
    of_all = {name: [value for own in chosen if (value := own.get(name)) is not None] for own in chosen for name in own}
    return {name: float(np.mean(values)) for name, values in of_all.items() if len(values) == len(chosen)}
