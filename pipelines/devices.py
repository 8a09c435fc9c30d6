"""Where avatars are trained and rendered."""

from __future__ import annotations

import os

import torch


def best_device() -> str:
    """`cuda` where this process has a GPU, or `cpu`. Ray hides the GPUs from a worker that has reserved none."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def has_bfloat16(device: str) -> bool:
    """Whether a device computes in bfloat16 at speed. A CPU without AVX-512 imitates it, many times slower than float32."""
    return device == "cuda" or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def device_here() -> str:
    """The device of this process, whose share of the cores is OMP_NUM_THREADS."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    return best_device()
