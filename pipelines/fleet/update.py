"""One update of weights by the terms of a loss, with what every training looks after."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pipelines.training import finite_numbers


def update(
    optimizer: torch.optim.Optimizer,
    terms: dict[str, Tensor],
    clipped: Sequence[Tensor],
    clip_norm: float,
    share: float,
    step: int,
    block: str,
) -> dict[str, float]:
    """Steps along the gradient of terms["loss"] times share, its norm over `clipped` held to clip_norm; returns what was found.

    Raises TrainingDiverged for what is not finite, before any weight is changed: with the step's number, and the block of
    params.yaml whose learning rate may be too high. Processes that share a batch all raise it: they have the same gradient.
    """
    optimizer.zero_grad(set_to_none=True)
    (terms["loss"] * share).backward()
    norm = nn.utils.clip_grad_norm_(clipped, clip_norm)
    found = finite_numbers({**terms, "gradient": norm}, step, block)
    optimizer.step()
    return found
