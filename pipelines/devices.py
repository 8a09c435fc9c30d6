"""Where avatars are trained and rendered."""

from __future__ import annotations

import os

import torch

from avatar_models.splatting.cuda import why_no_cuda_code
from pipelines.fanout.item import MachineUnfit

WITHOUT_GSPLAT = (
    "mend that and look with `headwater doctor`, or do without GPUs: num_gpus: 0 in the compute block of params.yaml"
)


def best_device() -> str:
    """`cuda` where this process has a GPU, or `cpu`. A worker has those that it has reserved: see worker_environment."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def has_bfloat16(device: str) -> bool:
    """Whether a device computes in bfloat16 at speed. A CPU without AVX-512 imitates it, many times slower than float32."""
    return device == "cuda" or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def drawing_device() -> str:
    """Where a command draws Gaussians: on a GPU, if there is one that gsplat has code for; else on the CPU, which is said."""
    device = best_device()
    if device == "cuda" and (why := why_no_cuda_code()):
        print(f"drawing on the CPU, since gsplat cannot draw on this GPU: {why}", flush=True)
        return "cpu"
    return device


def reserved_device() -> str:
    """Where a worker draws Gaussians. Raises MachineUnfit where it has reserved a GPU that gsplat has no code for."""
    device = best_device()
    expect_drawing(device)
    return device


def expect_drawing(device: str) -> None:
    """Raises MachineUnfit for a GPU that gsplat has no code for."""
    if device == "cuda" and (why := why_no_cuda_code()):
        raise MachineUnfit(f"gsplat cannot draw on this GPU: {why}; {WITHOUT_GSPLAT}")


def device_here() -> str:
    """The device of this process, whose share of the cores is OMP_NUM_THREADS."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    return best_device()
