"""Animating an NPGA: a new expression every frame, moved, splatted and refined.

    python -m bench.npga_render [GAUSSIANS] [SIDE] [HIDDEN] [THREADS]

The avatar has random weights and lies on a ball of nine centimetres; fields of HIDDEN units. Prints frames a second and the
parts' times, medians of 30 frames.
"""

from __future__ import annotations

import os
import sys

os.environ["OMP_NUM_THREADS"] = sys.argv[4] if len(sys.argv) > 4 else str(os.cpu_count())

import torch
from torch.nn.functional import normalize

from avatar_models.cameras import Camera
from avatar_models.heads.nphm.forward import ForwardField, ForwardSizes
from avatar_models.npga import Npga, NpgaSizes
from bench.timing import median_s
from pipelines.devices import best_device

FRAMES = 30


@torch.no_grad()
def main() -> None:
    count, side, hidden = (int(word) for word in [*sys.argv[1:4], *("20000", "256", "64")[len(sys.argv) - 1 :]][:3])
    threads, device = int(os.environ["OMP_NUM_THREADS"]), best_device()
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    field = ForwardField(ForwardSizes(24, hidden=hidden))
    torch.nn.init.normal_(field.layers[-1].weight, std=0.1)
    avatar = Npga(NpgaSizes(count, field.sizes, hidden=hidden))
    points = 0.09 * normalize(torch.randn(count, 3), dim=1)
    avatar.initialise(points, torch.rand(count, 3), torch.randn(count, 8), field)
    avatar.eval().to(device)
    K = torch.tensor([[[2.0 * side, 0, side / 2], [0, 2.0 * side, side / 2], [0, 0, 1]]], device=device)
    viewmat = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0], device=device))[None].clone()
    viewmat[0, 2, 3] = 0.5
    camera, background = Camera(K, viewmat, side, side), torch.ones(3, device=device)
    conditions = torch.randn(64, avatar.condition_size, device=device)
    turn = iter(range(10**9))
    moved = avatar.gaussians(conditions[0])
    image = avatar.splatted(moved, camera, background).image
    parts = {
        "fields": median_s(lambda: avatar.gaussians(conditions[next(turn) % 64]), FRAMES),
        "splat": median_s(lambda: avatar.splatted(moved, camera, background), FRAMES),
        "screen": median_s(lambda: avatar.refined(image), FRAMES),
    }
    whole = median_s(lambda: avatar.draw(avatar.gaussians(conditions[next(turn) % 64]), camera, background), FRAMES)
    name = torch.cuda.get_device_name() if device == "cuda" else f"{threads} threads"
    print(f"{name}: {count:,} Gaussians, {side} pixels, fields of {hidden}: {1 / whole:.1f} frames/s")
    for part, took in parts.items():
        print(f"{part:8} {1e3 * took:7.1f} ms")


if __name__ == "__main__":
    main()
