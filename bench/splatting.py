"""The CPU splatting kernels: milliseconds by scene and number of threads.

python -m bench.splatting
"""

from __future__ import annotations

import math
import os
import resource
import time
from collections.abc import Callable

import numpy as np
import torch

from avatar_models.cameras import Camera
from avatar_models.gaussians import Gaussians
from avatar_models.splatting import splat

SCENES = (
    (2_500, 128, 3), (2_500, 256, 3), (10_000, 256, 3), (10_000, 512, 3), (50_000, 256, 3), (50_000, 512, 3),
    (10_000, 256, 32), (50_000, 512, 32), (180_000, 512, 32),
)  # fmt: skip
TURNS, ROUNDS = 10, 5


def head(count: int, size: int, channels: int, pixels: float = 42.0, seed: int = 0) -> tuple[Gaussians, Camera]:
    """Gaussians on a head-sized ellipsoid, each covering `pixels` pixels above 1/255 at 10,000 and 256 x 256."""
    rng = np.random.default_rng(seed)
    place = rng.normal(size=(count, 3))
    place *= np.array([0.08, 0.115, 0.095]) / np.linalg.norm(place, axis=1, keepdims=True)
    depth, focal = 0.6, 2.0 * size
    opacities = rng.uniform(0.3, 0.95, count)
    radius = math.sqrt(pixels / math.pi) * math.sqrt(10_000 / count) * size / 256  # pixels
    deviation = radius / np.sqrt(2 * np.log(255 * opacities))
    world = np.maximum(deviation**2 - 0.3, 0.05) ** 0.5 * depth / focal
    scales = world[:, None] * rng.uniform(0.6, 1.4, (count, 3))
    to = lambda array: torch.tensor(array, dtype=torch.float32)  # noqa: E731
    quats = rng.normal(size=(count, 4))
    gaussians = Gaussians(to(place), to(quats), to(scales), to(opacities), to(rng.uniform(size=(count, channels))))
    viewmat = torch.eye(4)[None].clone()
    viewmat[0, 2, 3] = depth
    K = torch.tensor([[[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1.0]]])
    return gaussians, Camera(K, viewmat, size, size)


def best(call: Callable[[], object], rounds: int = 40) -> float:
    """Seconds of the best of some rounds: what the code takes, without what else the machine does meanwhile."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def both_ways(gaussians: Gaussians, camera: Camera) -> tuple[Callable[[], object], Callable[[], object]]:
    """A forward pass, and a forward and backward pass to all Gaussian parameters."""
    parameters = (gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities, gaussians.colors)
    leaves = [t.clone().requires_grad_() for t in parameters if t is not None]
    weight = torch.rand(1, gaussians.colors.shape[1], camera.height, camera.width)

    def forward() -> object:
        with torch.no_grad():
            return splat(gaussians, camera)

    def forward_backward() -> object:
        image = splat(Gaussians(*leaves), camera).image
        return torch.autograd.grad(image, leaves, weight)

    return forward, forward_backward


def main() -> None:
    print(f"{os.cpu_count()} cores, torch {torch.__version__}, best of {TURNS * ROUNDS}")
    print("Gaussians  image  channels   1 thread: fwd  fwd+bwd   2 threads: fwd  fwd+bwd   ms")
    for count, size, channels in SCENES:
        forward, forward_backward = both_ways(*head(count, size, channels))
        found = [math.inf] * 4
        for _ in range(TURNS):  # in turns: the machine's speed changes while this runs
            for k, threads in enumerate((1, 2)):
                torch.set_num_threads(threads)
                for j, call in enumerate((forward, forward_backward)):
                    found[2 * k + j] = min(found[2 * k + j], 1e3 * best(call, ROUNDS))
        print(
            f"{count:9}  {size:5}  {channels:8}  {found[0]:14.2f} {found[1]:8.2f} {found[2]:16.2f} {found[3]:8.2f}", flush=True
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"the process held at most {peak:.0f} MB")


if __name__ == "__main__":
    main()
