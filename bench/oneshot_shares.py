"""Two workers that share a batch against one that has it all: losses and gradients of 50 steps.

    python -m bench.oneshot_shares PROJECT [STEPS]

PROJECT is a folder in which `dvc repro preprocess` has run. At each step the two shares start from the weights that one worker
alone has reached, and what DistributedDataParallel averages, their gradients, is compared with that one's.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
from torch import Tensor

from pipelines.fleet.loop import Place
from pipelines.oneshot.setup import Recipe
from pipelines.oneshot.stream import pairs_of
from pipelines.oneshot.training import OneshotTraining
from pipelines.params import load_params

WORKERS = 2


def gradient(training: OneshotTraining) -> Tensor:
    return torch.cat([weight.grad.flatten() for weight in training.model.parameters() if weight.grad is not None])


def main() -> None:
    os.chdir(Path(sys.argv[1]))
    steps = int(sys.argv[2]) if len(sys.argv) > 2 else 50
    # Nothing is clipped: a norm that differs in its last bit would scale all of a gradient.
    options = load_params().train_oneshot.model_copy(update={"clip_norm": 1e9, "precision": "float32"})
    recipe = Recipe(options.as_key(), "", ".")
    alone, shared = (recipe.prepare("cpu") for _ in range(2))
    losses, gradients = [], []
    for step in range(steps):
        state = alone.training.state()
        total, loss = torch.zeros(()), 0.0
        for rank in range(WORKERS):
            shared.training.load_state(state)
            place = Place(rank, WORKERS)
            (pairs,) = pairs_of(range(step, step + 1), options.batch, shared.pairs.frames, options.seed, place)
            share = place.share(step, options.batch)
            loss += shared.training.one_step(shared.pairs.batch(pairs), share)["loss"] * share / WORKERS
            total = total + gradient(shared.training) / WORKERS
        (pairs,) = pairs_of(range(step, step + 1), options.batch, alone.pairs.frames, options.seed)
        wanted = alone.training.one_step(alone.pairs.batch(pairs))["loss"]
        losses.append(abs(loss - wanted) / wanted)
        own = gradient(alone.training)
        gradients.append(float((total - own).norm() / own.norm()))
    print(f"{steps} steps of {options.batch} pairs, {len(own):,} weights; largest relative difference over the steps:")
    print(f"loss {max(losses):.1e}, gradient {max(gradients):.1e}")


if __name__ == "__main__":
    main()
