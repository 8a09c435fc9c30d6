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

from avatar_models.metrics import psnr, ssim
from pipelines.evaluation import evenly, pictures, render_shots
from pipelines.params import TrainHeadgas, load_params
from pipelines.splits import subjects_that_passed
from pipelines.subject import load_shots, read_tables, subject_clips, subject_identity
from pipelines.training import Training

JUDGED = 25
"""Held-out frames of each subject, evenly spread."""


def changed(own: TrainHeadgas, word: str) -> TrainHeadgas:
    """The options with the changes that a word of the command line names."""
    options: dict[str, Any] = own.model_dump()
    for change in filter(None, word.split(",")):
        key, _, value = change.partition("=")
        block = options
        *blocks, last = key.split(".")
        for name in blocks:
            block = block[name]
        block[last] = yaml.safe_load(value)
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
        held_out = [(name, rows) for name, rows in evenly([(c.clip_id, c.held_out) for c in clips], JUDGED) if len(rows)]
        identity = torch.tensor(subject_identity(data, train[0][0])["identity"])
        subjects[subject] = load_shots(data, train, size), load_shots(data, held_out, size), identity
    print(f"{'':40} held out SSIM   train     s   count     {'  '.join(subjects)}")
    for word in sys.argv[3:] or [""]:
        options = changed(own, word)
        rows = []
        for train, held_out, identity in subjects.values():
            start = time.process_time()
            training = Training(options, train, data.head(), identity, "cpu")
            while training.step < options.steps:
                training.one_step()
            seconds = time.process_time() - start
            made = render_shots(training.model, held_out.camera, held_out.conditions, training.level)
            wanted = pictures(held_out, training.level)
            figures = (psnr(made, wanted).mean(), ssim(made, wanted).mean(), training.training_psnr(), seconds)
            rows.append([*map(float, figures), len(training.model.mu)])
        mean = np.mean(rows, 0)
        each = "  ".join(f"{row[0]:.2f}" for row in rows)
        means = f"{mean[0]:5.2f}   {mean[1]:.4f}  {mean[2]:5.2f}  {mean[3]:4.0f}  {mean[4]:6.0f}"
        print(f"{word or 'as it is':40} {means}     {each}", flush=True)


if __name__ == "__main__":
    main()
