"""Which Gaussians each tile has to look at, front to back.

Visible Gaussians are ranked by depth; each is written into the list of every tile that its box touches, in rank order, so
all lists are sorted. A record of 16 floats (one cache line) holds what a tile needs to know of a Gaussian.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from avatar_models.kernels.lanes import bits_of, fetch_add, jit
from avatar_models.kernels.maths import f4, log

TILE_W, TILE_H = 16, 8
PIXELS = TILE_W * TILE_H

RECORD = 16
# Places in a record. Of the conic, what makes (a dx + b dy) dx + c dy dy an eighth of the exponent.
MX, MY, CA, CB, CC, REACH, OPACITY, EXTENT_Y, DEPTH, RED, GREEN, BLUE = range(12)

RANKS_A_CHUNK = 256


@jit
def ranks(depths: Any, extents: Any) -> Any:
    """Indices (M,) int32 of the visible Gaussians by depth, equal depths by index: a radix sort of the floats' bits."""
    count = len(depths)
    order = np.empty(count, np.int32)
    keys = np.empty(count, np.uint32)
    seen = 0
    lowest, highest = np.uint32(0xFFFFFFFF), np.uint32(0)
    for i in range(count):
        if extents[i, 0] >= f4(0.0):
            key = np.uint32(bits_of(depths[i]))  # positive floats sort as their bits do
            order[seen], keys[seen] = i, key
            lowest, highest = min(lowest, key), max(highest, key)
            seen += 1
    order, keys = order[:seen], keys[:seen]
    if seen == 0:
        return order
    other_order, other_keys = np.empty(seen, np.int32), np.empty(seen, np.uint32)
    span = np.int64(highest) - np.int64(lowest)
    counts = np.empty(2049, np.int64)
    shift = 0
    while span >> shift:
        counts[:] = 0
        for i in range(seen):
            counts[(((np.int64(keys[i]) - lowest) >> shift) & 2047) + 1] += 1
        for digit in range(2048):
            counts[digit + 1] += counts[digit]
        for i in range(seen):
            digit = ((np.int64(keys[i]) - lowest) >> shift) & 2047
            place = counts[digit]
            counts[digit] = place + 1
            other_order[place], other_keys[place] = order[i], keys[i]
        order, other_order = other_order, order
        keys, other_keys = other_keys, keys
        shift += 11
    return order


@jit
def _tiles(mean: Any, extent: Any, size: int, tile: int) -> Any:
    """Tiles [first, last) along one axis with a pixel centre inside mean +- extent."""
    low = np.int64(np.ceil(mean - extent - f4(0.5)))
    high = np.int64(np.floor(mean + extent - f4(0.5)))
    low, high = max(low, 0), min(high, size - 1)
    if high < low:
        return 0, 0
    return low // tile, high // tile + 1


@jit
def fill(order: Any, means2d: Any, extents: Any, width: int, height: int) -> Any:
    """The lists: starts (tiles + 1,), members (pairs,) ranks by tile, pair_starts (M + 1,), places (pairs,).

    Pairs of rank r are pair_starts[r] to pair_starts[r + 1]; places tells where each stands in members.
    """
    seen = len(order)
    tiles_x, tiles_y = (width + TILE_W - 1) // TILE_W, (height + TILE_H - 1) // TILE_H
    boxes = np.empty((seen, 4), np.int32)
    starts = np.zeros(tiles_x * tiles_y + 1, np.int64)
    pair_starts = np.empty(seen + 1, np.int64)
    pair_starts[0] = 0
    for rank in range(seen):
        i = order[rank]
        x0, x1 = _tiles(means2d[i, 0], extents[i, 0], width, TILE_W)
        y0, y1 = _tiles(means2d[i, 1], extents[i, 1], height, TILE_H)
        boxes[rank, 0], boxes[rank, 1], boxes[rank, 2], boxes[rank, 3] = x0, x1, y0, y1
        pair_starts[rank + 1] = pair_starts[rank] + (x1 - x0) * (y1 - y0)
        for ty in range(y0, y1):
            for tx in range(x0, x1):
                starts[ty * tiles_x + tx + 1] += 1
    for tile in range(len(starts) - 1):
        starts[tile + 1] += starts[tile]
    members = np.empty(pair_starts[seen], np.int32)
    places = np.empty(pair_starts[seen], np.int32)
    cursor = starts[:-1].copy()
    pair = 0
    for rank in range(seen):
        for ty in range(boxes[rank, 2], boxes[rank, 3]):
            for tx in range(boxes[rank, 0], boxes[rank, 1]):
                tile = ty * tiles_x + tx
                place = cursor[tile]
                cursor[tile] = place + 1
                members[place] = rank
                places[pair] = place
                pair += 1
    return starts, members, pair_starts, places


@jit
def write_records(
    claims: Any,
    order: Any,
    means2d: Any,
    conics: Any,
    opacities: Any,
    extents: Any,
    depths: Any,
    colors: Any,  # (N, C); up to three go into the record
    records: Any,  # out (M, RECORD)
    finite: Any,  # out (chunks,) NaN where a colour is not finite
) -> None:
    count = len(order)
    planes = colors.shape[1] if colors.shape[1] <= 3 else 0
    while True:
        chunk = fetch_add(claims, 0, 1)
        start = chunk * RANKS_A_CHUNK
        if start >= count:
            break
        bad = f4(0.0)
        for rank in range(start, min(start + RANKS_A_CHUNK, count)):
            i = order[rank]
            r = records[rank]
            r[MX], r[MY] = means2d[i, 0], means2d[i, 1]
            r[CA], r[CB], r[CC] = conics[i, 0] * f4(1 / 16), conics[i, 1] * f4(1 / 8), conics[i, 2] * f4(1 / 16)
            r[REACH] = log(opacities[i] * f4(255.0)) * f4(1 / 8)
            r[OPACITY], r[EXTENT_Y], r[DEPTH] = opacities[i], extents[i, 1], depths[i]
            r[RED], r[GREEN], r[BLUE] = f4(0.0), f4(0.0), f4(0.0)
            for c in range(planes):
                r[RED + c] = colors[i, c]
            for c in range(colors.shape[1]):
                bad += colors[i, c] * f4(0.0)
        finite[chunk] = bad
        fetch_add(claims, 8, 1)


@jit
def sum_pairs(
    claims: Any,
    order: Any,
    pair_starts: Any,
    places: Any,
    conics: Any,
    opacities: Any,
    partial: Any,  # (pairs, W): S, Sx, Sy, Sxx, Sxy, Syy of v_sigma; depth; then colours
    v_means2d: Any,  # out (N, 2), zeros
    v_conics: Any,  # out (N, 3), zeros
    v_depths: Any,  # out (N,), zeros
    v_opacities: Any,  # out (N,), zeros
    v_colors: Any,  # out (N, C), zeros
) -> None:
    """Adds up what each tile said of a Gaussian, in the order of its tiles.

    sigma = 1/2 (A dx^2 + C dy^2) + B dx dy, so all its gradients are moments of v_sigma, and since
    alpha = opacity exp(-sigma), v_opacity = -sum(v_sigma) / opacity.
    """
    count, channels = len(order), v_colors.shape[1]
    total = np.empty(7 + channels, np.float32)
    while True:
        chunk = fetch_add(claims, 0, 1)
        start = chunk * RANKS_A_CHUNK
        if start >= count:
            break
        for rank in range(start, min(start + RANKS_A_CHUNK, count)):
            i = order[rank]
            total[:] = f4(0.0)
            for pair in range(pair_starts[rank], pair_starts[rank + 1]):
                row = partial[places[pair]]
                for j in range(7 + channels):
                    total[j] += row[j]
            v_opacities[i] = -total[0] / opacities[i]
            v_means2d[i, 0] = -(conics[i, 0] * total[1] + conics[i, 1] * total[2])
            v_means2d[i, 1] = -(conics[i, 2] * total[2] + conics[i, 1] * total[1])
            v_conics[i, 0], v_conics[i, 1], v_conics[i, 2] = f4(0.5) * total[3], total[4], f4(0.5) * total[5]
            v_depths[i] = total[6]
            for c in range(channels):
                v_colors[i, c] = total[7 + c]
        fetch_add(claims, 8, 1)
