"""Where avatars are trained and rendered."""

from __future__ import annotations

import torch


def best_device() -> str:
    """`cuda` where this process has a GPU, or `cpu`. Ray hides the GPUs from a worker that has reserved none."""
    return "cuda" if torch.cuda.is_available() else "cpu"
