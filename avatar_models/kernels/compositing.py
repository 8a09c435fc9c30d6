"""Front-to-back compositing of up to three channels and depth, and its gradient: Kerbl et al. 2023, equation 3.

A tile is 8 x 16 pixels, and all it knows of its pixels lies in one scratch array, a row of 128 for each quantity. A
Gaussian passes over the rows of pixels that its box touches in one straight loop without branches, which becomes vector
code. Transmittance T carries a pixel's state in its sign: negative once the pixel is closed.

Backward goes from back to front, undoing T, and needs one number a pixel of what lies behind: the light that reaches the
eye from there, dotted with the incoming gradient.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from avatar_models.kernels.lanes import fetch_add, jit
from avatar_models.kernels.lists import (
    BLUE,
    CA,
    CB,
    CC,
    DEPTH,
    EXTENT_Y,
    GREEN,
    MX,
    MY,
    OPACITY,
    REACH,
    RED,
    TILES_A_GROUP,
)
from avatar_models.kernels.maths import exp_of_eighths, f4
from avatar_models.kernels.tiles import PIXELS, any_open, load_tile, place_pixels, rows_of, store_tile, tile_bounds

ALPHA_MAX = f4(0.999)
TRANSMITTANCE_MIN = f4(1e-4)
OPEN_CHECK_EVERY = 32  # Gaussians between two looks whether any pixel of the tile is still open

ROWS = 12
SCRATCH_FLOATS = ROWS * int(PIXELS)
# Rows of the scratch: forward sums R G B D, backward holds gradients VR VG VB and D's. Outside of the main loops, ALPHA and
# DEPTH_OUT take the place of rows that are needed only there.
PX, PY, T, LAST, R, G, B, D, BEHIND, VR, VG, VB = (np.uint64(row) * PIXELS for row in range(ROWS))
ALPHA, DEPTH_OUT = PX, PY


@jit
def forward(
    claims: Any,
    scratch: Any,  # (ROWS * PIXELS,)
    starts: Any,
    members: Any,
    records: Any,
    background: Any,  # (C,)
    image: Any,  # out (C, H, W)
    T_out: Any,  # out (H, W) what is left of the light behind everything
    alpha_out: Any,  # out (H, W)
    depth_out: Any,  # out (H, W) expected depth
    last_out: Any,  # out (H, W) float32: 1 + place in the tile's list of the last Gaussian that the pixel took
) -> None:
    """Composites groups of tiles until none is left; several threads may run it with the same claims."""
    s = scratch
    channels, height, width = image.shape
    pictures, T_flat, alpha_flat = image.reshape(-1), T_out.reshape(-1), alpha_out.reshape(-1)
    depth_flat, last_flat = depth_out.reshape(-1), last_out.reshape(-1)
    tiles = len(starts) - 1
    while True:
        group = fetch_add(claims, 0, 1)
        if group * TILES_A_GROUP >= tiles:
            break
        for tile in range(group * TILES_A_GROUP, min((group + 1) * TILES_A_GROUP, tiles)):
            x0, y0, columns, rows = tile_bounds(tile, width, height)
            at = y0 * width + x0
            place_pixels(s, PX, PY, x0, y0)
            for j in range(PIXELS):
                s[T + j] = f4(1.0) if (s[PX + j] < f4(width)) & (s[PY + j] < f4(height)) else f4(-1.0)
                s[LAST + j] = s[R + j] = s[G + j] = s[B + j] = s[D + j] = f4(0.0)
            for k in range(starts[tile], starts[tile + 1]):
                place = k - starts[tile]
                if place % OPEN_CHECK_EVERY == OPEN_CHECK_EVERY - 1 and not any_open(s, T):
                    break
                r = records[members[k]]
                mx, my, a, b, c, reach, opacity = r[MX], r[MY], r[CA], r[CB], r[CC], r[REACH], r[OPACITY]
                red, green, blue, depth = r[RED], r[GREEN], r[BLUE], r[DEPTH]
                number = f4(place + 1)
                first, last = rows_of(my, r[EXTENT_Y], y0)
                for j in range(first, last):
                    dx, dy = s[PX + j] - mx, s[PY + j] - my
                    u = (a * dx + b * dy) * dx + c * dy * dy
                    alpha = opacity * exp_of_eighths(u)
                    alpha = alpha if alpha < ALPHA_MAX else ALPHA_MAX
                    before = s[T + j]
                    after = before - before * alpha
                    taken = (u >= f4(0.0)) & (u <= reach) & (before > f4(0.0))
                    stays = after > TRANSMITTANCE_MIN
                    counts = taken & stays
                    w = alpha * before if counts else f4(0.0)
                    s[T + j] = after if counts else (-before if taken else before)
                    s[LAST + j] = number if counts else s[LAST + j]
                    s[R + j] += w * red
                    s[G + j] += w * green
                    s[B + j] += w * blue
                    s[D + j] += w * depth
            for j in range(PIXELS):
                through = abs(s[T + j])
                alpha = f4(1.0) - through
                s[T + j], s[ALPHA + j] = through, alpha
                s[D + j] /= max(alpha, f4(1e-10))
            for c in range(channels):
                row = R + np.uint64(c) * PIXELS
                for j in range(PIXELS):
                    s[row + j] += s[T + j] * background[c]
                store_tile(s, row, pictures, c * height * width + at, width, columns, rows)
            store_tile(s, T, T_flat, at, width, columns, rows)
            store_tile(s, ALPHA, alpha_flat, at, width, columns, rows)
            store_tile(s, D, depth_flat, at, width, columns, rows)
            store_tile(s, LAST, last_flat, at, width, columns, rows)
        fetch_add(claims, 8, 1)


@jit
def backward(
    claims: Any,
    scratch: Any,
    starts: Any,
    members: Any,
    records: Any,
    background: Any,
    T_out: Any,
    depth_out: Any,
    last_out: Any,
    v_image: Any,  # (C, H, W)
    v_alpha: Any,  # (H, W)
    v_depth: Any,  # (H, W), or (0, 0) for zeros
    partial: Any,  # out (pairs, 7 + C), see lists.sum_pairs
) -> None:
    """The gradient of :func:`forward`, one row for each Gaussian of each tile."""
    s = scratch
    channels, height, width = v_image.shape
    v_pictures, T_flat, v_alpha_flat = v_image.reshape(-1), T_out.reshape(-1), v_alpha.reshape(-1)
    depth_flat, v_depth_flat, last_flat = depth_out.reshape(-1), v_depth.reshape(-1), last_out.reshape(-1)
    with_depth = len(v_depth) > 0
    tiles = len(starts) - 1
    while True:
        group = fetch_add(claims, 0, 1)
        if group * TILES_A_GROUP >= tiles:
            break
        for tile in range(group * TILES_A_GROUP, min((group + 1) * TILES_A_GROUP, tiles)):
            x0, y0, columns, rows = tile_bounds(tile, width, height)
            at = y0 * width + x0
            for j in range(PIXELS):
                s[T + j] = f4(1.0)
                s[LAST + j] = s[VR + j] = s[VG + j] = s[VB + j] = s[D + j] = s[BEHIND + j] = s[DEPTH_OUT + j] = f4(0.0)
            load_tile(s, T, T_flat, at, width, columns, rows)
            load_tile(s, LAST, last_flat, at, width, columns, rows)
            load_tile(s, BEHIND, v_alpha_flat, at, width, columns, rows)
            for j in range(PIXELS):
                s[BEHIND + j] = -s[BEHIND + j]
            if with_depth:
                load_tile(s, D, v_depth_flat, at, width, columns, rows)
                load_tile(s, DEPTH_OUT, depth_flat, at, width, columns, rows)
                for j in range(PIXELS):
                    s[D + j] /= max(f4(1.0) - s[T + j], f4(1e-10))
                    s[BEHIND + j] += s[D + j] * s[DEPTH_OUT + j]
            for c in range(channels):
                row = VR + np.uint64(c) * PIXELS
                load_tile(s, row, v_pictures, c * height * width + at, width, columns, rows)
                for j in range(PIXELS):
                    s[BEHIND + j] += background[c] * s[row + j]
            latest = f4(0.0)
            for j in range(PIXELS):
                s[BEHIND + j] *= s[T + j]
                latest = max(latest, s[LAST + j])
            furthest = np.int64(latest)
            place_pixels(s, PX, PY, x0, y0)
            begin = starts[tile]
            partial[begin + furthest : starts[tile + 1]] = f4(0.0)
            for k in range(begin + furthest - 1, begin - 1, -1):
                number = f4(k - begin + 1)
                r = records[members[k]]
                mx, my, a, b, c, reach, opacity = r[MX], r[MY], r[CA], r[CB], r[CC], r[REACH], r[OPACITY]
                red, green, blue, depth = r[RED], r[GREEN], r[BLUE], r[DEPTH]
                S = Sx = Sy = Sxx = Sxy = Syy = Sr = Sg = Sb = Sd = f4(0.0)
                first, last = rows_of(my, r[EXTENT_Y], y0)
                for j in range(first, last):
                    dx, dy = s[PX + j] - mx, s[PY + j] - my
                    u = (a * dx + b * dy) * dx + c * dy * dy
                    raw = opacity * exp_of_eighths(u)
                    taken = (u >= f4(0.0)) & (u <= reach) & (number <= s[LAST + j])
                    capped = raw >= ALPHA_MAX
                    alpha = ALPHA_MAX if capped else raw
                    alpha = alpha if taken else f4(0.0)
                    over = f4(1.0) / (f4(1.0) - alpha)
                    before = s[T + j] * over
                    w = alpha * before
                    light = red * s[VR + j] + green * s[VG + j] + blue * s[VB + j] + depth * s[D + j]
                    behind = s[BEHIND + j]
                    v_alpha_j = before * light - over * behind
                    s[BEHIND + j] = behind + w * light
                    s[T + j] = before
                    v_sigma = f4(0.0) if capped else -alpha * v_alpha_j
                    S += v_sigma
                    x, y = v_sigma * dx, v_sigma * dy
                    Sx += x
                    Sy += y
                    Sxx += x * dx
                    Sxy += x * dy
                    Syy += y * dy
                    Sr += w * s[VR + j]
                    Sg += w * s[VG + j]
                    Sb += w * s[VB + j]
                    Sd += w * s[D + j]
                p = partial[k]
                p[0], p[1], p[2], p[3], p[4], p[5], p[6] = S, Sx, Sy, Sxx, Sxy, Syy, Sd
                p[7] = Sr
                if channels > 1:
                    p[8] = Sg
                if channels > 2:
                    p[9] = Sb
        fetch_add(claims, 8, 1)
