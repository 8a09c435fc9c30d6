"""Gauss-Newton's step of a chain of frames whose neighbours are pulled to each other. F frames, S values of each."""

from __future__ import annotations

import torch
from torch import Tensor


def chain_solve(H: Tensor, b: Tensor, pull: Tensor, values: Tensor) -> Tensor:
    """The step (F, S) that makes  sum_f (d_f' H_f d_f / 2 + b_f' d_f) + sum_f |x_f+1 + d_f+1 - x_f - d_f|^2_p_f / 2  smallest.

    H (F, S, S), b (F, S), the pull p (F - 1, S) of each frame and the next one. x are the first E of the values, (F, E); those
    behind have no pull. The system has blocks on three diagonals: elimination forwards, substitution backwards (Thomas).
    """
    frames, size = b.shape
    x = torch.nn.functional.pad(values, (0, size - values.shape[1]))
    W = torch.diag_embed(pull)
    apart = pull * x.diff(dim=0)
    b = b.clone()
    b[:-1] -= apart
    b[1:] += apart
    H = H.clone()
    H[:-1] += W
    H[1:] += W
    solved: list[tuple[Tensor, Tensor]] = []  # of each frame: how it follows the next one, and where it is without it
    for f in range(frames):
        block, right = H[f], -b[f]
        if f:
            follows, alone = solved[-1]
            block, right = block - W[f - 1] @ follows, right + W[f - 1] @ alone
        ahead = W[f] if f + 1 < frames else torch.zeros_like(block)
        both = torch.linalg.solve(block, torch.cat([ahead, right[:, None]], 1))
        solved.append((both[:, :size], both[:, size]))
    steps = [solved[-1][1]]
    for follows, alone in reversed(solved[:-1]):
        steps.append(alone + follows @ steps[-1])
    return torch.stack(steps[::-1])
