"""The CPU kernels: tiles, forward and backward, in numba. Arrays in, arrays out; all float32 but indices.

A tile is TILE x TILE pixels. Gaussians are scattered to the tiles that their box touches in depth order, so each
tile's list is sorted. Backward runs a tile's list from back to front with two scalars per pixel (transmittance, and
the dot product of what lies behind with the incoming gradient) and writes one partial gradient per (Gaussian, tile);
they are summed in a fixed order, so the result does not depend on how tiles are shared among threads.

All kernels live in this one file: numba's cache does not notice a change in another one.
"""

from __future__ import annotations

import math

import numba
import numpy as np

TILE = 16
ALPHA_MIN = np.float32(1.0 / 255.0)
ALPHA_MAX = np.float32(0.999)
TRANSMITTANCE_MIN = np.float32(1e-4)
_jit = numba.njit(nogil=True, cache=True, fastmath={"contract", "nsz", "arcp"}, boundscheck=False)


@_jit
def tile_lists(means2d, radii, order, width, height):  # type: ignore[no-untyped-def]
    """Lists of Gaussians per tile, front to back.

    means2d (N, 2), radii (N, 2), order (M,) visible Gaussians by depth -> (starts (tiles + 1,), members (pairs,)).
    """
    tiles_x = (width + TILE - 1) // TILE
    tiles_y = (height + TILE - 1) // TILE
    boxes = np.empty((len(order), 4), np.int32)
    counts = np.zeros(tiles_x * tiles_y + 1, np.int64)
    for k in range(len(order)):
        i = order[k]
        x0 = max(0, int(np.floor((means2d[i, 0] - radii[i, 0]) / TILE)))
        x1 = min(tiles_x, int(np.floor((means2d[i, 0] + radii[i, 0]) / TILE)) + 1)
        y0 = max(0, int(np.floor((means2d[i, 1] - radii[i, 1]) / TILE)))
        y1 = min(tiles_y, int(np.floor((means2d[i, 1] + radii[i, 1]) / TILE)) + 1)
        boxes[k, 0], boxes[k, 1], boxes[k, 2], boxes[k, 3] = x0, x1, y0, y1
        for ty in range(y0, y1):
            for tx in range(x0, x1):
                counts[ty * tiles_x + tx + 1] += 1
    starts = np.cumsum(counts)
    fill = starts[:-1].copy()
    members = np.empty(starts[-1], np.int32)
    for k in range(len(order)):
        for ty in range(boxes[k, 2], boxes[k, 3]):
            for tx in range(boxes[k, 0], boxes[k, 1]):
                tile = ty * tiles_x + tx
                members[fill[tile]] = order[k]
                fill[tile] += 1
    return starts, members


@_jit
def _reach(opacity):  # type: ignore[no-untyped-def]
    """Largest exponent at which alpha is still at least ALPHA_MIN."""
    return np.float32(math.log(opacity / ALPHA_MIN))


@_jit
def _rows(mean_y, radius, y0, y1):  # type: ignore[no-untyped-def]
    low = max(y0, int(np.floor(mean_y - radius)))
    high = min(y1, int(np.floor(mean_y + radius)) + 1)
    return low, high


@_jit
def _columns(A, B, dx_centre, dy, reach, x0, x1):  # type: ignore[no-untyped-def]
    """Pixels [low, high) of a row that an ellipse A dx^2 + 2 B dx dy + C dy^2 <= 2 reach can touch, one to spare."""
    rest, C_dy2 = reach
    half = B * dy
    disc = half * half - A * (C_dy2 - 2 * rest)
    if disc <= 0:
        return x0, x0
    root = math.sqrt(disc)
    low = dx_centre + (-half - root) / A
    high = dx_centre + (-half + root) / A
    return max(x0, int(np.floor(low - 1.0))), min(x1, int(np.floor(high + 1.0)) + 1)


@_jit
def forward(  # type: ignore[no-untyped-def]
    first_tile, last_tile, starts, members, means2d, radii, conics, opacities, colors, background, image, final_T, last
):  # type: ignore[no-untyped-def]
    """Composites tiles [first_tile, last_tile) front to back.

    colors (N, C), background (C,) -> image (H, W, C), final_T (H, W), last (H, W): 1 + place in the tile's list of the
    last Gaussian that a pixel took.
    """
    height, width, channels = image.shape
    tiles_x = (width + TILE - 1) // TILE
    closed = np.empty((TILE, TILE), np.bool_)
    for tile in range(first_tile, last_tile):
        y0, x0 = (tile // tiles_x) * TILE, (tile % tiles_x) * TILE
        y1, x1 = min(y0 + TILE, height), min(x0 + TILE, width)
        closed[:] = False
        still_open = (y1 - y0) * (x1 - x0)
        for y in range(y0, y1):
            for x in range(x0, x1):
                final_T[y, x] = 1.0
                last[y, x] = 0
                for c in range(channels):
                    image[y, x, c] = 0.0
        for k in range(starts[tile], starts[tile + 1]):
            if still_open == 0:
                break
            i = members[k]
            mx, my = means2d[i, 0], means2d[i, 1]
            A, B, C = conics[i, 0], conics[i, 1], conics[i, 2]
            opacity = opacities[i]
            reach = _reach(opacity)
            row0, row1 = _rows(my, radii[i, 1], y0, y1)
            for y in range(row0, row1):
                dy = np.float32(y + 0.5) - my
                col0, col1 = _columns(A, B, mx, dy, (reach, C * dy * dy), x0, x1)
                for x in range(col0, col1):
                    if closed[y - y0, x - x0]:
                        continue
                    dx = np.float32(x + 0.5) - mx
                    sigma = np.float32(0.5) * (A * dx * dx + C * dy * dy) + B * dx * dy
                    if sigma < 0 or sigma > reach:
                        continue
                    alpha = min(ALPHA_MAX, opacity * np.float32(math.exp(-sigma)))
                    T = final_T[y, x]
                    after = T * (np.float32(1.0) - alpha)
                    if after <= TRANSMITTANCE_MIN:
                        closed[y - y0, x - x0] = True
                        still_open -= 1
                        continue
                    weight = alpha * T
                    for c in range(channels):
                        image[y, x, c] += weight * colors[i, c]
                    final_T[y, x] = after
                    last[y, x] = k - starts[tile] + 1
        for y in range(y0, y1):
            for x in range(x0, x1):
                for c in range(channels):
                    image[y, x, c] += final_T[y, x] * background[c]


@_jit
def backward(  # type: ignore[no-untyped-def]
    first_tile,
    last_tile,
    starts,
    members,
    means2d,
    radii,
    conics,
    opacities,
    colors,
    background,
    final_T,
    last,
    v_image,
    v_alpha,
    partial,
):  # type: ignore[no-untyped-def]
    """Gradients of tiles [first_tile, last_tile): v_image (H, W, C), v_alpha (H, W) -> partial (pairs, 6 + C).

    A row of partial: means2d x y, conic A B C, opacity, then colours.
    """
    height, width, channels = v_image.shape
    tiles_x = (width + TILE - 1) // TILE
    T_of = np.empty((TILE, TILE), np.float32)
    behind = np.empty((TILE, TILE), np.float32)
    for tile in range(first_tile, last_tile):
        y0, x0 = (tile // tiles_x) * TILE, (tile % tiles_x) * TILE
        y1, x1 = min(y0 + TILE, height), min(x0 + TILE, width)
        for y in range(y0, y1):
            for x in range(x0, x1):
                T_of[y - y0, x - x0] = final_T[y, x]
                light = -v_alpha[y, x]
                for c in range(channels):
                    light += background[c] * v_image[y, x, c]
                behind[y - y0, x - x0] = final_T[y, x] * light
        for k in range(starts[tile + 1] - 1, starts[tile] - 1, -1):
            i = members[k]
            place = k - starts[tile] + 1
            mx, my = means2d[i, 0], means2d[i, 1]
            A, B, C = conics[i, 0], conics[i, 1], conics[i, 2]
            opacity = opacities[i]
            reach = _reach(opacity)
            g = partial[k]
            for j in range(6 + channels):
                g[j] = 0.0
            row0, row1 = _rows(my, radii[i, 1], y0, y1)
            for y in range(row0, row1):
                dy = np.float32(y + 0.5) - my
                col0, col1 = _columns(A, B, mx, dy, (reach, C * dy * dy), x0, x1)
                for x in range(col0, col1):
                    if place > last[y, x]:
                        continue
                    dx = np.float32(x + 0.5) - mx
                    sigma = np.float32(0.5) * (A * dx * dx + C * dy * dy) + B * dx * dy
                    if sigma < 0 or sigma > reach:
                        continue
                    fall = np.float32(math.exp(-sigma))
                    alpha = min(ALPHA_MAX, opacity * fall)
                    over = np.float32(1.0) / (np.float32(1.0) - alpha)
                    T = T_of[y - y0, x - x0] * over
                    weight = alpha * T
                    dot = np.float32(0.0)
                    for c in range(channels):
                        v = v_image[y, x, c]
                        dot += colors[i, c] * v
                        g[6 + c] += weight * v
                    v_a = T * dot - over * behind[y - y0, x - x0]
                    behind[y - y0, x - x0] += weight * dot
                    T_of[y - y0, x - x0] = T
                    if opacity * fall < ALPHA_MAX:
                        v_sigma = -alpha * v_a
                        g[0] -= v_sigma * (A * dx + B * dy)
                        g[1] -= v_sigma * (C * dy + B * dx)
                        g[2] += np.float32(0.5) * v_sigma * dx * dx
                        g[3] += v_sigma * dx * dy
                        g[4] += np.float32(0.5) * v_sigma * dy * dy
                        g[5] += fall * v_a


@_jit
def sum_partials(members, partial, total):  # type: ignore[no-untyped-def]
    """Adds each pair's gradient to its Gaussian's, in the pairs' order: partial (pairs, G) -> total (N, G)."""
    for k in range(len(members)):
        i = members[k]
        for j in range(partial.shape[1]):
            total[i, j] += partial[k, j]
