"""What the one-shot model takes: the loader alone, a training step, and driving a person who is made already.

    python -m bench.oneshot_speed PROJECT [THREADS]

PROJECT is a folder in which `dvc repro preprocess` has run; its train_oneshot options are used, and weights are random.
"""

from __future__ import annotations

import os
import sys
import time
from itertools import islice
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = sys.argv[2] if len(sys.argv) > 2 else str(os.cpu_count())

import numpy as np
import torch

from avatar_models.gagavatar.avatar import avatar_of
from pipelines.fleet.loader import read_ahead
from pipelines.oneshot.setup import Recipe
from pipelines.oneshot.stream import pairs_of
from pipelines.params import load_params

LOADED, STEPS, DRIVEN = 200, 12, 100
WARM = 3  # what is not counted


def main() -> None:
    os.chdir(Path(sys.argv[1]))
    options = load_params().train_oneshot
    threads = int(os.environ["OMP_NUM_THREADS"])
    torch.set_num_threads(threads)
    setup = Recipe(options.as_key(), "", ".").prepare("cpu")
    training = setup.training
    wanted = list(pairs_of(range(LOADED), options.batch, setup.pairs.frames, 0))

    start = time.perf_counter()
    count = sum(len(batch) for batch in read_ahead(setup.pairs.batch, iter(wanted), threads))
    loader = count / (time.perf_counter() - start)

    times = []
    for batch in islice(read_ahead(setup.pairs.batch, iter(wanted), 1), STEPS):
        start = time.perf_counter()
        training.one_step(batch)
        times.append(time.perf_counter() - start)
    step = float(np.median(times[WARM:]))

    batch = setup.pairs.batch(wanted[0][:1])
    model = training.average
    times = []
    with torch.no_grad():
        start = time.perf_counter()
        person = model.person(batch.photos_on(training.rig))
        made = time.perf_counter() - start
        avatar = avatar_of(model, person, training.rig, batch.identity[0])
        condition = batch.wanted.conditions[0]
        background = torch.zeros(3)
        for index in range(DRIVEN + WARM):
            start = time.perf_counter()
            avatar.draw(avatar.gaussians(condition + 0.01 * index), batch.views, background)
            times.append(time.perf_counter() - start)
    drive = float(np.mean(times[WARM:]))
    print(f"{threads} threads, {model.sizes.image_size} pixels, {model.sizes.num_gaussians:,} Gaussians, {options.precision}")
    print(f"loader alone         {loader:8.1f} samples/s")
    print(f"training step        {step:8.3f} s for {options.batch} samples: {options.batch / step:.1f} samples/s")
    print(f"loader over training {loader * step / options.batch:8.1f}")
    print(f"making a person      {made:8.3f} s")
    print(f"driving, {DRIVEN} frames  {1 / drive:8.1f} frames/s")


if __name__ == "__main__":
    main()
