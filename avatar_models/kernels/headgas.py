"""Colour and opacity of HeadGaS's Gaussians for some expressions: blend, two layers, sigmoid, a few Gaussians at a time.

What lies between the basis and the result (features, hidden values) never leaves the caches, and each piece of the basis,
which is what a picture costs in memory traffic, is read once for all expressions.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from avatar_models.kernels.lanes import LANES, ROWS, WIDE, add_products, add_products_of_one, fetch_add, jit
from avatar_models.kernels.maths import f4

CHUNK, LONG_CHUNK = 64, 256
"""Gaussians done at a time. The part of 64 in a basis of 62 x 32 takes half a megabyte, and stays in the second cache for many
expressions; for one, longer runs of memory are faster. The bits are the same."""

STREAMS = 8
"""Rows of the basis that are read side by side."""


def padded(width: int) -> int:
    """A layer's width in whole vectors."""
    return -(-width // LANES) * LANES


def chunk_of(expressions: int) -> int:
    """Gaussians to do at a time for so many expressions."""
    return LONG_CHUNK if expressions == 1 else CHUNK


def scratch_floats(chunk: int, features: int, hidden: int, outputs: int) -> int:
    """Length of a thread's scratch, with padded widths."""
    return chunk * (ROWS * features + hidden + outputs)


@jit
def _blend(f: Any, step: int, e: Any, F: Any, start: int, n: int) -> None:
    """f (B, n) = e (B, E) F[:, start : start + n], B being ROWS or 1: the same sums in the same order. f is flat, its rows
    `step` apart."""
    frames, depth = e.shape
    columns = F.shape[1]
    flat_e, flat_F = e.reshape(-1), F.reshape(-1)
    whole = n - n % (WIDE * LANES)
    for i in range(np.uint64(frames * step)):
        f[i] = f4(0.0)
    for row in range(0, depth, STREAMS):
        rows, at = min(STREAMS, depth - row), row * columns + start
        if frames == ROWS:
            for column in range(0, whole, LANES):
                add_products(f, column, step, flat_e, row, depth, flat_F, at + column, columns, rows)
        else:
            for column in range(0, whole, WIDE * LANES):
                add_products_of_one(f, column, step, flat_e, row, depth, flat_F, at + column, columns, rows)
    for frame in range(frames):
        for column in range(whole, n):
            for row in range(depth):
                f[frame * step + column] += e[frame, row] * F[row, start + column]


@jit
def _layer(out: Any, x: Any, depth: int, W: Any, rows: int) -> None:
    """out (rows, w) += x (rows, depth) W (depth, w), all flat, rows in whole ROWS."""
    width = len(W) // depth
    for row in range(0, rows, ROWS):
        for column in range(0, width, LANES):
            add_products(out, row * width + column, width, x, row * depth, depth, W, column, width, depth)


@jit
def appearance(
    claims: Any,
    scratch: Any,  # (scratch_floats,)
    chunk: int,
    e: Any,  # (B, E)
    F: Any,  # (E, N D)
    before: Any,  # (N, H) what the first layer gives without the blend
    W1: Any,  # (D H,) flat
    base: Any,  # (N, O) what the second layer gives of hidden zeros
    W2: Any,  # (H O,) flat
    colors: Any,  # out (B, N, C), C < O: the first outputs
    opacities: Any,  # out (B, N) sigmoid of the output after them
) -> None:
    """HeadGaS equations 3 and 4 for B expressions. H and O are whole vectors, with zeros behind what is used."""
    count, hidden = before.shape
    outputs, shown = base.shape[1], colors.shape[2]
    features = F.shape[1] // count
    step = chunk * features
    f, h = scratch[: ROWS * step], scratch[ROWS * step : ROWS * step + chunk * hidden]
    o = scratch[ROWS * step + chunk * hidden : ROWS * step + chunk * (hidden + outputs)]
    before_flat, base_flat = before.reshape(-1), base.reshape(-1)
    while True:
        start = fetch_add(claims, 0, 1) * chunk
        if start >= count:
            break
        n = min(chunk, count - start)
        rows = (n + ROWS - 1) // ROWS * ROWS  # the last ones may be of no Gaussian, and go nowhere
        first = 0
        while first < len(e):
            frames = ROWS if len(e) - first >= ROWS else 1
            _blend(f, step, e[first : first + frames], F, start * features, n * features)
            for frame in range(frames):
                for i in range(np.uint64(n * hidden)):
                    h[i] = before_flat[start * hidden + i]
                _layer(h, f[frame * step : (frame + 1) * step], features, W1, rows)
                for i in range(np.uint64(n * hidden)):
                    h[i] = f4(0.0) if h[i] < f4(0.0) else h[i]  # NaN stays
                for i in range(np.uint64(n * outputs)):
                    o[i] = base_flat[start * outputs + i]
                _layer(o, h, hidden, W2, rows)
                for i in range(n):
                    row = o[i * outputs : (i + 1) * outputs]
                    for k in range(np.uint64(shown)):
                        colors[first + frame, start + i, k] = row[k]
                    opacities[first + frame, start + i] = f4(1.0) / (f4(1.0) + np.exp(-row[shown]))
            first += frames
        fetch_add(claims, 8, 1)
