"""Which Gaussians each tile has to look at, front to back.

Visible Gaussians are ranked by depth; each is written into the list of every tile that its box touches, in rank order, so
all lists are sorted. A record of 16 floats (one cache line) holds what a tile needs to know of a Gaussian.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from avatar_models.kernels.lanes import bits_of, fetch_add, jit
from avatar_models.kernels.maths import f4, log
from avatar_models.kernels.tiles import TILE_H, TILE_W

TILES_A_GROUP = 8
"""Neighbours that one thread does together: two threads seldom write to the same cache line of a picture."""

RECORD = 16
# Places in a record. Of the conic, what makes (a dx + b dy) dx + c dy dy an eighth of the exponent.
MX, MY, CA, CB, CC, REACH, OPACITY, EXTENT_Y, DEPTH, RED, GREEN, BLUE = range(12)

RANKS_A_CHUNK = 256

MAX_PAIRS = 2**31 - 1  # places of pairs are int32
SHARES = 8
"""The ranks are written into the lists in so many shares at once; a fixed number, and the lists do not depend on it."""


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
def share_of(share: int, count: int) -> Any:
    """Ranks [first, last) of one of SHARES shares."""
    return share * count // SHARES, (share + 1) * count // SHARES


@jit
def count_pairs(
    claims: Any,
    order: Any,
    means2d: Any,
    conics: Any,
    opacities: Any,
    extents: Any,
    depths: Any,
    colors: Any,  # (N, C); up to three go into the record
    size: Any,  # (2,) width, height
    records: Any,  # out (M, RECORD)
    boxes: Any,  # out (M, 4) tiles x0 x1 y0 y1
    counts: Any,  # out (SHARES, tiles): Gaussians of this share in each tile
    pairs: Any,  # out (SHARES,)
    finite: Any,  # out (SHARES,) NaN where a colour is not finite
) -> None:
    """Writes the records, and counts what each share of the ranks will put into each tile's list."""
    count, channels = len(order), colors.shape[1]
    planes = channels if channels <= 3 else 0
    width, height = size[0], size[1]
    tiles_x, tiles_y = (width + TILE_W - 1) // TILE_W, (height + TILE_H - 1) // TILE_H
    stride = np.uint64(tiles_x + 1)
    corners = np.empty((tiles_x + 1) * (tiles_y + 1), np.int32)
    while True:
        share = fetch_add(claims, 0, 1)
        if share >= SHARES:
            break
        first, last = share_of(share, count)
        bad = f4(0.0)
        found = 0
        corners[:] = 0
        for rank in range(first, last):
            i = order[rank]
            r = records[rank]
            r[MX], r[MY] = means2d[i, 0], means2d[i, 1]
            r[CA], r[CB], r[CC] = conics[i, 0] * f4(1 / 16), conics[i, 1] * f4(1 / 8), conics[i, 2] * f4(1 / 16)
            r[REACH] = log(opacities[i] * f4(255.0)) * f4(1 / 8)
            r[OPACITY], r[EXTENT_Y], r[DEPTH] = opacities[i], extents[i, 1], depths[i]
            r[RED], r[GREEN], r[BLUE] = f4(0.0), f4(0.0), f4(0.0)
            for c in range(planes):
                r[RED + c] = colors[i, c]
            for c in range(channels):
                bad += colors[i, c] * f4(0.0)
            x0, x1 = _tiles(means2d[i, 0], extents[i, 0], width, TILE_W)
            y0, y1 = _tiles(means2d[i, 1], extents[i, 1], height, TILE_H)
            box = boxes[rank]
            box[0], box[1], box[2], box[3] = x0, x1, y0, y1
            found += (x1 - x0) * (y1 - y0)
            # A box adds one to all its tiles: written at its corners, summed along both axes below.
            left, right, top, bottom = np.uint64(x0), np.uint64(x1), np.uint64(y0) * stride, np.uint64(y1) * stride
            corners[top + left] += 1
            corners[top + right] -= 1
            corners[bottom + left] -= 1
            corners[bottom + right] += 1
        here = counts[share]
        for ty in range(tiles_y):
            run = np.int32(0)
            for tx in range(tiles_x):
                run += corners[ty * (tiles_x + 1) + tx]
                here[ty * tiles_x + tx] = run + (here[(ty - 1) * tiles_x + tx] if ty > 0 else np.int32(0))
        pairs[share], finite[share] = found, bad
        fetch_add(claims, 8, 1)


@jit
def lay_out(counts: Any, pairs: Any) -> Any:
    """starts (tiles + 1,) of the lists; turns counts and pairs into the places that each share begins to write at."""
    tiles = counts.shape[1]
    starts = np.empty(tiles + 1, np.int64)
    place = 0
    for tile in range(tiles):
        starts[tile] = place
        for share in range(SHARES):
            here = counts[share, tile]
            counts[share, tile] = place
            place += here
    starts[tiles] = place
    before = 0
    for share in range(SHARES):
        here = pairs[share]
        pairs[share] = before
        before += here
    return starts


@jit
def fill(
    claims: Any,
    boxes: Any,
    tiles_x: int,
    cursors: Any,  # (SHARES, tiles) from lay_out
    first_pairs: Any,  # (SHARES,) from lay_out
    members: Any,  # out (pairs,) ranks, tile by tile
    pair_starts: Any,  # out (M + 1,) pairs of rank r are pair_starts[r] to pair_starts[r + 1]
    places: Any,  # out (pairs,) where each pair stands in members
) -> None:
    """Writes each share of the ranks into the tiles' lists."""
    count = len(boxes)
    while True:
        share = fetch_add(claims, 0, 1)
        if share >= SHARES:
            break
        first, last = share_of(share, count)
        pair = np.uint64(first_pairs[share])
        cursor = cursors[share]
        for rank in range(first, last):
            pair_starts[rank] = pair
            box = boxes[rank]
            for ty in range(box[2], box[3]):
                for tx in range(box[0], box[1]):
                    tile = np.uint64(ty * tiles_x + tx)
                    place = np.uint64(cursor[tile])
                    cursor[tile] = place + np.uint64(1)
                    members[place] = rank
                    places[pair] = place
                    pair += np.uint64(1)
        if last == count:
            pair_starts[count] = pair
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
