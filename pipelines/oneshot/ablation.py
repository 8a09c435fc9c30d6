"""The one-shot model's table of ablations: its rows as changes of params, and how a model that lies in the cache is judged."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from avatar_models.model_folder import FACTS, TENSORS
from pipelines.cache import Entry, EntryWriter
from pipelines.csim_asset import CsimFile, csim_assets, csim_file
from pipelines.fanout import Item, ItemRejected, Step
from pipelines.keys import digest
from pipelines.lpips_asset import LpipsFiles, lpips_assets, lpips_files
from pipelines.oneshot.evaluation import VERSION, JudgeOneshot
from pipelines.oneshot.items import MODEL, data_of, segments_of
from pipelines.oneshot.people import train_and_test
from pipelines.params import Params
from pipelines.splits import subjects_that_passed


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
    """Judges a model that lies in the cache on the test subjects: self-reenactment."""

    def __init__(
        self,
        params: Mapping[str, Any],
        model: Entry,
        lpips_files: LpipsFiles | None = None,
        csim_file: CsimFile | None = None,
    ) -> None:
        self.subjects = params["subjects"]
        with tempfile.TemporaryDirectory() as folder:
            for name in (TENSORS, FACTS):
                model.copy_to(name, Path(folder) / name)
            self.judge = JudgeOneshot(params, lpips_files, csim_file, Path(folder))

    def __call__(self, item: Item, upstream: Entry | None, out: EntryWriter) -> dict[str, Any]:
        """Means over the subjects, of the figures that they all have."""
        found = []
        for subject in self.subjects:
            try:
                found.append(self.judge.figures(subject))
            except ItemRejected as error:
                print(f"{subject} is left out: {error}", flush=True)
        if not found:
            raise ItemRejected("no_pairs", "no test subject has a clip with two good frames")
        of_all = {name: [value for figures in found if (value := figures[name]) is not None] for name in found[0]}
        means = {name: float(np.mean(values)) for name, values in of_all.items() if len(values) == len(found)}
        return {**means, "subjects": float(len(found))}


def judged_item(model: Entry) -> Item:
    return Item(MODEL, digest([model.files[name]["sha256"] for name in (TENSORS, FACTS)]))


def judge_step(params: Params, model: Entry, root: Path = Path()) -> Step:
    """A step of JudgeTrained: who judges, and with what data, is in its key. Raises ParamsError."""
    segments = segments_of(root)
    test = judging_subjects(params, root)
    options = {"max_frames": params.evaluate.max_frames, "subjects": test, "data": digest(data_of(segments, test))}
    judge = partial(JudgeTrained, model=model, lpips_files=lpips_files(params), csim_file=csim_file(params.evaluate))
    assets = lpips_assets(params) | csim_assets(params.evaluate)
    return Step("judge_oneshot", VERSION, judge, options, params.compute.render, assets)


def judging_subjects(params: Params, root: Path = Path()) -> list[str]:
    """Who judges. Raises ParamsError."""
    return train_and_test(subjects_that_passed(segments_of(root)), params.train_oneshot.test_subjects)[1]
