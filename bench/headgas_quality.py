"""What a change of train_headgas does to held-out frames, at how much CPU time: on all tracked subjects of a project.

    python -m bench.headgas_quality PROJECT [SIZE [KEY=VALUE,KEY=VALUE ...]]

PROJECT is a folder in which `dvc repro preprocess` has run, SIZE the side of the pictures (default 128). Each further word is a
row: changes of the project's own train_headgas, such as sh_degree=0,density.stop=0. One thread; seconds are CPU time.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch
import yaml

from avatar_models.headgas import FrozenHeadGas
from pipelines.dotted import set_dotted
from pipelines.evaluation import FIGURES, evenly, load_some, measured, pictures, render_aligned, render_shots
from pipelines.params import TrainHeadgas, load_params
from pipelines.splits import subjects_that_passed
from pipelines.subject import Shots, load_shots, read_tables, subject_clips, subject_identity
from pipelines.training import Training

NAMES = FIGURES[:8]
JUDGED = 12
"""Held-out frames of each subject, evenly spread."""


def changed(own: TrainHeadgas, word: str) -> TrainHeadgas:
    """The options with the changes that a word of the command line names."""
    options: dict[str, Any] = own.model_dump()
    for change in filter(None, word.split(",")):
        key, _, value = change.partition("=")
        set_dotted(options, key, yaml.safe_load(value))
    return TrainHeadgas.model_validate(options)


def main() -> None:
    os.chdir(Path(sys.argv[1]))
    size = int(sys.argv[2]) if len(sys.argv) > 2 else 128
    torch.set_num_threads(1)
    params = load_params()
    own = params.train_headgas.model_copy(update={"resolution": size})
    data = read_tables()
    subjects = {}
    for subject in subjects_that_passed(data.segments):
        clips = subject_clips(data, subject, params.catalog.test_fraction)
        train = [(clip.clip_id, clip.train) for clip in clips if len(clip.train)]
        held_out = load_some(data, evenly([(clip.clip_id, clip.held_out) for clip in clips], JUDGED), size)
        assert held_out is not None, f"{subject}: no held-out frame passed the gates"
        identity = torch.tensor(subject_identity(data, train[0][0])["identity"])
        subjects[subject] = load_shots(data, train, size), held_out, identity
    print(f"{'':40} {'  '.join(NAMES)}  training  seconds  Gaussians  aligned_psnr of {', '.join(subjects)}")
    for word in sys.argv[3:] or [""]:
        options = changed(own, word)
        rows, counts = [], []
        for train, held_out, identity in subjects.values():
            start = time.process_time()
            training = Training(options, train, data.head(), identity, "cpu")
            while training.step < options.steps:
                training.one_step()
            seconds = time.process_time() - start
            rows.append([*figures(training, held_out, params.evaluate.align_steps), training.training_psnr(), seconds])
            counts.append(len(training.model.mu))
        mean = np.mean(rows, 0)
        shown = "  ".join(
            f"{value:.4f}" if name.endswith("ssim") else f"{value:.2f}" for name, value in zip(NAMES, mean, strict=False)
        )
        each = "  ".join(f"{row[NAMES.index('aligned_psnr')]:.2f}" for row in rows)
        print(f"{word or 'as it is':40} {shown}  {mean[-2]:.2f}  {mean[-1]:4.0f}  {np.mean(counts):6.0f}  {each}", flush=True)


def figures(training: Training, held_out: Shots, align_steps: int) -> list[float]:
    """Means of NAMES over the held-out frames."""
    avatar, level = FrozenHeadGas(training.model), training.level
    tracked = render_shots(avatar, held_out.camera, held_out.conditions, level)
    aligned, wanted = render_aligned(avatar, held_out, level, align_steps), pictures(held_out, level)
    measures = [measured(made, wanted, held_out.mattes, held_out.judged) for made in (tracked, aligned)]
    return [float(values.mean()) for found in measures for values in found.values()]


if __name__ == "__main__":
    main()
