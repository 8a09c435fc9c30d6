"""How far the compositing kernels are from what the machine can do.

python -m bench.splatting_limits [GAUSSIANS [SIZE]]

Counts what a frame asks for (pixels looked at, arithmetic, exponentials, bytes), measures what the machine gives (multiply-add
with all lanes full, memory), and prints the time that each alone would take beside the time that the kernel takes.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np
import torch

from avatar_models.kernels import compositing, lists, tiles
from avatar_models.kernels.lanes import LANES, fetch_add, jit
from avatar_models.kernels.threads import run
from avatar_models.splatting import cpu
from bench.splatting import best, both_ways, head

# Counted in the source, a pixel that a Gaussian's rows touch; a multiply-add is two, a comparison or a choice one.
FORWARD_FLOPS, BACKWARD_FLOPS = 43, 67
EXP_FLOPS = 13  # of them, in each: five multiply-adds and three squarings


@jit
def _multiply_adds(claims: Any, x: Any, rounds: int, out: Any) -> None:
    """Ten independent chains of sixteen lanes: as many as hide the latency."""
    while True:
        piece = fetch_add(claims, 0, 1)
        if piece >= len(out):
            break
        total = np.empty(160, np.float32)
        for i in range(np.uint64(160)):
            total[i] = x[i]
        a, b = x[0], x[1]
        for _ in range(rounds):
            for i in range(np.uint64(160)):
                total[i] = total[i] * a + b
        out[piece] = total.sum()
        fetch_add(claims, 8, 1)


@jit
def _read(claims: Any, x: Any, out: Any) -> None:
    while True:
        piece = fetch_add(claims, 0, 1)
        if piece >= len(out):
            break
        size = len(x) // len(out)
        part = x[piece * size : (piece + 1) * size]
        total = np.float32(0.0)
        for i in range(np.uint64(size)):
            total += part[i]
        out[piece] = total
        fetch_add(claims, 8, 1)


def count_pixels(count: int, size: int) -> tuple[int, int, int]:
    """Pairs of Gaussian and tile, pixels that the kernel looks at, and pixels with an alpha of 1/255 or more."""
    gaussians, camera = head(count, size, 3)
    seen: dict[str, Any] = {}
    before = cpu.run

    def listen(kernel: Any, pieces: int, threads: int, *arguments: Any, **options: Any) -> None:
        before(kernel, pieces, threads, *arguments, **options)
        if kernel is compositing.forward:
            seen["starts"], seen["members"], seen["records"] = arguments[:3]

    cpu.run = listen  # type: ignore[assignment]
    try:
        both_ways(gaussians, camera)[0]()
    finally:
        cpu.run = before
    starts, members, records = seen["starts"], seen["members"], seen["records"]
    tile = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    across = -(-size // tiles.TILE_W)
    x0, y0 = (tile % across) * tiles.TILE_W, (tile // across) * tiles.TILE_H
    r = records[members]
    low = np.clip(np.ceil(r[:, lists.MY] - r[:, lists.EXTENT_Y] - 0.5) - y0, 0, None) // tiles.ROWS_A_VECTOR
    high = np.clip(np.floor(r[:, lists.MY] + r[:, lists.EXTENT_Y] - 0.5) - y0 + 1, None, tiles.TILE_H)
    vectors = np.clip(np.ceil(high / tiles.ROWS_A_VECTOR) - low, 0, None)
    useful = 0
    for j in range(int(tiles.PIXELS)):
        dx = x0 + j % tiles.TILE_W + 0.5 - r[:, lists.MX]
        dy = y0 + j // tiles.TILE_W + 0.5 - r[:, lists.MY]
        u = (r[:, lists.CA] * dx + r[:, lists.CB] * dy) * dx + r[:, lists.CC] * dy * dy
        useful += int(((u >= 0) & (u <= r[:, lists.REACH])).sum())
    return len(members), int(vectors.sum()) * LANES, useful


def main() -> None:
    count, size = (int(a) for a in (*sys.argv[1:], "10000", "256")[:2])
    threads = torch.get_num_threads()
    pairs, looked_at, useful = count_pixels(count, size)
    print(f"{count} Gaussians, {size} x {size}, 3 channels, {threads} threads")
    print(f"{pairs} pairs of Gaussian and tile, {looked_at} pixels looked at, {100 * useful / looked_at:.0f} % of them taken")

    x, out, rounds = np.full(160, 0.999, np.float32), np.empty(8, np.float32), 100_000
    flops = 2 * 160 * rounds * len(out) / best(lambda: run(_multiply_adds, len(out), threads, x, rounds, out), 8)
    memory = np.ones(64 * 1024**2, np.float32)
    bandwidth = memory.nbytes / best(lambda: run(_read, len(out), threads, memory, out), 8)
    print(f"the machine: {flops / 1e9:.0f} GFLOP/s in multiply-adds, {bandwidth / 1e9:.0f} GB/s from memory")

    times: dict[str, list[float]] = {}
    before = cpu.run

    def timed(kernel: Any, pieces: int, team: int, *arguments: Any, **options: Any) -> None:
        start = time.perf_counter()
        before(kernel, pieces, team, *arguments, **options)
        name = f"{kernel.__module__.rpartition('.')[2]}.{kernel.__name__}"
        times.setdefault(name, []).append(time.perf_counter() - start)

    cpu.run = timed  # type: ignore[assignment]
    try:
        forward, forward_backward = both_ways(*head(count, size, 3))
        for _ in range(60):
            forward_backward()
    finally:
        cpu.run = before
    frame, both = 1e3 * best(forward), 1e3 * best(forward_backward)
    plane = 4 * size * size
    for name, per_pixel, moved in (
        ("compositing.forward", FORWARD_FLOPS, 64 * pairs + 7 * plane),
        ("compositing.backward", BACKWARD_FLOPS, (64 + 40) * pairs + 7 * plane),
    ):
        taken = 1e3 * min(times[name])
        arithmetic, traffic = 1e3 * looked_at * per_pixel / flops, 1e3 * moved / bandwidth
        print(
            f"{name:21} {taken:.2f} ms; {looked_at * per_pixel / 1e6:.0f} MFLOP alone {arithmetic:.2f} ms "
            f"(of them {looked_at / 1e6:.2f} M exponentials {1e3 * looked_at * EXP_FLOPS / flops:.2f} ms), "
            f"{moved / 1e6:.1f} MB alone {traffic:.2f} ms: {taken / max(arithmetic, traffic):.1f} times its limit"
        )
    inside = {name: 1e3 * min(found) for name, found in times.items()}
    for name, taken in inside.items():
        print(f"{name:21} {taken:.3f} ms")
    print(f"forward {frame:.2f} ms, forward and backward {both:.2f} ms, of them in kernels {sum(inside.values()):.2f} ms")


if __name__ == "__main__":
    main()
