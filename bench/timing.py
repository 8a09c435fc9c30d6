"""How long a call takes."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch

WARM = 2
"""Calls that are not counted."""


def median_s(call: Callable[[], object], times: int) -> float:
    """Median seconds of a call, on a GPU with all that it started there."""
    found = []
    for _ in range(WARM + times):
        start = time.perf_counter()
        call()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        found.append(time.perf_counter() - start)
    return float(np.median(found[WARM:]))
