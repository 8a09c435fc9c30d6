"""The nearest of 175,232 lifted points to each of 5,023 vertices: our search against faiss's, which the released code calls.

    python -m bench.lifting_neighbours [FAISS]

FAISS is a folder with the faiss-cpu wheel's packages (pip install --target FAISS --no-deps faiss-cpu); it is no dependency of
the project. Points as they lie before training (anywhere on their way) and after (on a head's surface). Seconds, best of five.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from avatar_models.gagavatar.losses import nearest_points

VERTICES, SIDE, HALF = 5023, 296, 0.15  # metres of half a plane
RADII = np.array([0.08, 0.11, 0.09], np.float32)


def points(trained: bool, rng: np.random.Generator) -> np.ndarray:
    """(2 * 296^2, 3) lifted points."""
    x, y = (grid.ravel() for grid in np.meshgrid(*(np.linspace(-HALF, HALF, SIDE, dtype=np.float32),) * 2))
    surface = RADII[2] * np.sqrt(np.clip(1 - (x / RADII[0]) ** 2 - (y / RADII[1]) ** 2, 1e-4, None))
    offsets = [surface if trained else rng.uniform(0, 0.2, x.size).astype(np.float32) for _ in range(2)]
    return np.concatenate([np.stack([x, y, sign * offset], 1) for sign, offset in zip((1, -1), offsets, strict=True)])


def best(work: Callable[[], Any]) -> tuple[float, Any]:
    times = []
    for _ in range(5):
        start = time.perf_counter()
        found = work()
        times.append(time.perf_counter() - start)
    return min(times), found


def main() -> None:
    sys.path.extend(sys.argv[1:2])
    try:
        import faiss
    except ImportError:
        faiss = None
    torch.set_num_threads(os.cpu_count() or 1)
    rng = np.random.default_rng(0)
    vertices = rng.normal(size=(VERTICES, 3)).astype(np.float32)
    vertices *= RADII / np.linalg.norm(vertices, axis=1, keepdims=True)
    for name, trained in (("untrained", False), ("trained", True)):
        cloud = points(trained, rng)
        ours, found = best(lambda cloud=cloud: nearest_points(torch.from_numpy(cloud), torch.from_numpy(vertices)))
        told = f"{name:10} k-d tree {ours:.4f} s"
        if faiss is not None:

            def search(cloud: np.ndarray = cloud) -> np.ndarray:
                index = faiss.IndexFlatL2(3)
                index.add(cloud)
                return index.search(vertices, 1)[1][:, 0]

            theirs, others = best(search)
            distances = [np.linalg.norm(cloud[chosen] - vertices, axis=1) for chosen in (found.numpy(), others)]
            apart = float(np.abs(distances[0] - distances[1]).max())
            told += f", faiss {theirs:.4f} s: {theirs / ours:.0f} times; same points {np.mean(found.numpy() == others):.4f}, "
            told += f"distances differ by at most {apart:.1e} m"
        print(told, flush=True)


if __name__ == "__main__":
    main()
