"""A photo to an avatar and 100 frames of it, with the published sizes: 180,255 Gaussians, 512 pixels.

    python -m bench.oneshot_published [THREADS]

Weights are random; Gaussians are as wide as the lifted points are apart, since how much they overlap is what splatting takes.
Runs on the GPU where there is one. Prints what making the person takes, what a frame takes and of which parts, and the floor:
the network's operations at the speed of this machine's matrix product.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

os.environ["OMP_NUM_THREADS"] = sys.argv[1] if len(sys.argv) > 1 else str(os.cpu_count())

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from avatar_models.cameras import Camera
from avatar_models.gagavatar import GAGAvatar
from avatar_models.gagavatar.avatar import avatar_of
from avatar_models.gagavatar.branches import MAX_SCALE
from avatar_models.gagavatar.photo_colors import Photos
from avatar_models.gagavatar.sizes import published
from avatar_models.heads.procedural import procedural_head
from avatar_models.splatting import splat
from bench.timing import median_s
from pipelines.devices import best_device, has_bfloat16
from pipelines.oneshot.setup import spread_vertices

FRAMES, TIMED = 100, 10
HEAD_M = 0.6
"""Metres that the picture shows at the head's distance."""
FOCAL = 12.0  # over half the picture's side: the published model's


def flops(call: Callable[[], object]) -> float:
    with FlopCounterMode(display=False) as counter:
        call()
    return float(counter.get_total_flops())


def matrix_product(device: str, dtype: torch.dtype) -> float:
    """Operations a second."""
    n = 2048
    a = torch.randn(n, n, device=device, dtype=dtype)
    return 2 * n**3 / median_s(lambda: a @ a, TIMED)


def model_with_small_gaussians(num_vertices: int, device: str) -> GAGAvatar:
    torch.manual_seed(0)
    model = GAGAvatar(published(num_vertices)).eval()
    wide = HEAD_M / model.sizes.plane_size / MAX_SCALE
    bias = float(np.log(wide / (1 - wide)))
    with torch.no_grad():
        model.expression.scales[-1].bias.fill_(bias)
        for branch in model.lifting:
            first = model.sizes.feature_dim + 1
            branch.convs[-1].bias[first : first + 3] = bias
    return model.requires_grad_(False).to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def camera_of(side: int, device: str) -> Camera:
    K = torch.tensor([[[FOCAL * side / 2, 0, side / 2], [0, FOCAL * side / 2, side / 2], [0, 0, 1]]], device=device)
    viewmat = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0], device=device))[None]
    viewmat[0, 2, 3] = FOCAL / 2 * HEAD_M
    return Camera(K, viewmat, side, side)


@torch.no_grad()
def main() -> None:
    device = best_device()
    threads = int(os.environ["OMP_NUM_THREADS"])
    torch.set_num_threads(threads)
    head = procedural_head()
    chosen = spread_vertices(head, 5023)
    model = model_with_small_gaussians(len(chosen), device)
    side = model.sizes.image_size
    camera = camera_of(side, device)
    rig = head.rig.take(chosen).to(device)
    heads = rig.template[None]
    photo = Photos(torch.rand(1, 3, side, side, device=device), camera, heads)
    name = torch.cuda.get_device_name() if device == "cuda" else f"{threads} threads"
    print(f"{name}: {model.sizes.num_gaussians:,} Gaussians, {side} pixels")

    made = median_s(lambda: model.person(photo), 3)
    avatar = avatar_of(model, model.person(photo), rig, torch.zeros(head.num_identity, device=device))
    condition = torch.zeros(avatar.condition_size, device=device)
    gaussians = avatar.gaussians(condition)
    features: Tensor = splat(gaussians, camera).image
    parts = {
        "pose": median_s(lambda: avatar.gaussians(condition), TIMED),
        "splat": median_s(lambda: splat(gaussians, camera), TIMED),
        "neural renderer": median_s(lambda: avatar.picture(features), TIMED),
    }
    frame = sum(parts.values())
    print(f"making the person {made:8.3f} s")
    for part, took in parts.items():
        print(f"{part:17} {1e3 * took:8.1f} ms a frame")
    print(f"{FRAMES} frames        {made + FRAMES * frame:8.1f} s with making the person; {1 / frame:.2f} frames/s")
    of_renderer = flops(lambda: avatar.picture(features))
    for dtype in (torch.float32, torch.bfloat16) if has_bfloat16(device) else (torch.float32,):
        with torch.autocast(device, dtype, enabled=dtype != torch.float32):
            took = median_s(lambda: avatar.picture(features), TIMED)
        speed = matrix_product(device, dtype)
        floor = f"{of_renderer / 1e9:.0f} GFLOP at {speed / 1e9:.0f} GFLOP/s are {1e3 * of_renderer / speed:.0f} ms"
        print(f"neural renderer in {dtype}: {1e3 * took:.0f} ms; {floor}")


if __name__ == "__main__":
    main()
