"""How well a prior fits people that it has never seen.

P people, X expressions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from avatar_models.heads.nphm.fit import FitOptions, distances, fit
from avatar_models.heads.nphm.model import Codes, Nphm
from pipelines.prior.scans import RegisteredScans

FITS = 3  # beside what else a seed is used for, in pipelines.prior.setup
OBSERVED = 5000
"""Points of each surface that a fit sees."""
JUDGED = 5000
"""Points of it, drawn anew, whose distance counts."""
THOROUGH = FitOptions()
QUICK = replace(THOROUGH, steps=100, points=500)


def fit_errors(
    model: Nphm, scans: RegisteredScans, people: Sequence[int], expressions: Sequence[int], options: FitOptions, seed: int
) -> Tensor:
    """Mean distance (P, X) in metres of surfaces to the heads that are fitted to points of them, each scan by itself."""
    device = next(model.parameters()).device
    errors = torch.zeros(len(people), len(expressions))
    for row, person in enumerate(people):
        for column, expression in enumerate(expressions):
            random = np.random.default_rng((seed, FITS, person, expression))
            observed, _, _ = scans.on_surface(person, expression, OBSERVED, random)
            judged, _, _ = scans.on_surface(person, expression, JUDGED, random)
            codes = fit(model, observed[None].to(device), None, options, seed)
            errors[row, column] = distances(partial(one_head, model, codes), judged.to(device)).mean().cpu()
    return errors


def one_head(model: Nphm, codes: Codes, points: Tensor) -> Tensor:
    """Signed distances (N,) of points (N, 3) to the one head of codes."""
    return model.sdf(points[None], codes)[0]
