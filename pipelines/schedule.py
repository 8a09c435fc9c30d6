"""What a training step does as a function of its number: so a run that was cut goes on as if it had not been."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import numpy as np

from avatar_models.densify import GrowthRules, PruneRules
from avatar_models.density_control import DensityRules
from pipelines.params import Density, TrainHeadgas

FINAL_RATE = 0.05
"""`cosine`: learning rates fall to this share of their start."""
FINAL_POSITION_RATE = 0.01
"""`3dgs`: the means' rate falls to this share of its start."""
AS_LONG_AS_IT_TAKES_S = 365 * 86400.0
"""For one model of all, and subjects of any size, in place of compute.item_timeout_s, which is meant for a clip or so."""
LEAST_GAIN = 0.002
"""A plateau: the loss fell by less than this share."""

PURPOSES = ("frame", "background", "condition")


def rng_of_step(seed: int, step: int, purpose: Literal["background", "condition"]) -> np.random.Generator:
    """The random numbers of one step for one purpose."""
    return np.random.default_rng((seed, step, PURPOSES.index(purpose)))


def frame_of_step(step: int, num_frames: int, seed: int) -> int:
    """The frame that a step sees: every epoch goes through all frames in an order of its own."""
    epoch, place = divmod(step, num_frames)
    return int(_order(seed, epoch, num_frames)[place])


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, num_frames: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).permutation(num_frames)


def rate_factors(rates: Literal["cosine", "3dgs"], share: float) -> tuple[float, float]:
    """Factors of the learning rates of the means and of all else, when a share of the steps is done.

    `3dgs` is Kerbl et al. 2023's: the means' rate falls exponentially to a hundredth, the others stay.
    """
    if rates == "3dgs":
        return FINAL_POSITION_RATE**share, 1.0
    factor = cosine(share, FINAL_RATE)
    return factor, factor


def cosine(share: float, final: float) -> float:
    """From one down to `final` along half a cosine, when a share of the steps is done."""
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * share))


def sh_degree(options: TrainHeadgas, step: int) -> int:
    """Degree of the harmonics in use: one more at equal distances up to sh_warmup, as in 3DGS."""
    warmup = options.sh_warmup * options.steps
    return options.sh_degree if step >= warmup else int(step / warmup * options.sh_degree)


def density_rules(density: Density, steps: int, exponent: float = 1.0) -> DensityRules:
    """The density block in steps; the exponent is that of the mean of gradients."""
    every = density.every
    first = max(every, round(density.start * steps))
    growth = GrowthRules(gradient=density.gradient, max_count=density.max_gaussians)
    # A close picture of a head is filled by few Gaussians: how much of it one covers is no reason to take it out.
    pruning = PruneRules(opacity=density.prune_opacity, screen=math.inf)
    return DensityRules(
        first, round(density.stop * steps), every, density.reset_every, density.decay, growth, pruning, exponent
    )


def probe_steps(probes: int, steps: int, every: int) -> set[int]:
    """The steps after which held-out frames are rendered: the last one, and others at equal distances on a grid."""
    return (
        {min(steps, max(every, round(steps * k / probes / every) * every)) for k in range(1, probes)} | {steps}
        if probes
        else set()
    )


def is_on_plateau(curve: Sequence[dict[str, float]], steps: int) -> bool:
    """Whether the mean loss of the last `steps` steps is no better than that of as many before; never for 0."""
    if not steps or not curve or curve[-1]["step"] < 2 * steps:
        return False
    now = curve[-1]["step"]
    late = [point["loss"] for point in curve if point["step"] > now - steps]
    early = [point["loss"] for point in curve if now - 2 * steps < point["step"] <= now - steps]
    return bool(np.mean(late) > (1 - LEAST_GAIN) * np.mean(early))
