"""Compositing of 1 to 64 channels and depth, channel-last: see :mod:`avatar_models.kernels.compositing` for the method.

What a pixel takes of a Gaussian is one weight for all channels, so the weights of a tile are found first, as there, and
then each pixel with a weight adds the Gaussian's channels, 16 at a time.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from avatar_models.kernels.compositing import ALPHA_MAX, OPEN_CHECK_EVERY, TRANSMITTANCE_MIN
from avatar_models.kernels.lanes import LANES, add_scaled, dot, fetch_add, jit
from avatar_models.kernels.lists import (
    CA,
    CB,
    CC,
    DEPTH,
    EXTENT_Y,
    MX,
    MY,
    OPACITY,
    RANKS_A_CHUNK,
    REACH,
    TILES_A_GROUP,
)
from avatar_models.kernels.maths import exp_of_eighths, f4
from avatar_models.kernels.tiles import PIXELS, any_open, load_tile, place_pixels, rows_of, store_tile, tile_bounds

# Rows of the scratch; from ACC on, a row of padded channels for each pixel, and one more for a Gaussian's gradient.
PX, PY, T, LAST, D, BEHIND, W, LIGHT = (np.uint64(row) * PIXELS for row in range(8))
VD = D
OVER, ALPHA, CAPPED = (np.uint64(row) * PIXELS for row in range(8, 11))
ACC = np.uint64(11) * PIXELS
PLANE, DEPTH_OUT = W, OVER  # outside of the main loops


def scratch_floats(padded: int) -> int:
    """Length of the scratch for a padded number of channels."""
    return int(ACC) + (int(PIXELS) + 1) * padded


@jit
def pad_colors(claims: Any, order: Any, colors: Any, padded: Any) -> None:
    """colors (N, C) -> padded (M * P,) by rank, zeros behind the last channel."""
    count, channels = len(order), colors.shape[1]
    width = len(padded) // max(count, 1)
    while True:
        start = fetch_add(claims, 0, 1) * RANKS_A_CHUNK
        if start >= count:
            break
        for rank in range(start, min(start + RANKS_A_CHUNK, count)):
            i = order[rank]
            for c in range(channels):
                padded[rank * width + c] = colors[i, c]
            for c in range(channels, width):
                padded[rank * width + c] = f4(0.0)
        fetch_add(claims, 8, 1)


@jit
def forward(
    claims: Any,
    scratch: Any,
    starts: Any,
    members: Any,
    records: Any,
    colors: Any,  # (M * P,) from pad_colors
    background: Any,  # (C,)
    image: Any,  # out (C, H, W)
    T_out: Any,
    alpha_out: Any,
    depth_out: Any,
    last_out: Any,
) -> None:
    """As compositing.forward, for any number of channels."""
    s = scratch
    channels, height, width = image.shape
    pictures, T_flat, alpha_flat = image.reshape(-1), T_out.reshape(-1), alpha_out.reshape(-1)
    depth_flat, last_flat = depth_out.reshape(-1), last_out.reshape(-1)
    padded = np.uint64((channels + LANES - 1) // LANES * LANES)
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
                s[LAST + j] = s[D + j] = f4(0.0)
            s[ACC : ACC + PIXELS * padded] = f4(0.0)
            for k in range(starts[tile], starts[tile + 1]):
                place = k - starts[tile]
                if place % OPEN_CHECK_EVERY == OPEN_CHECK_EVERY - 1 and not any_open(s, T):
                    break
                rank = np.uint64(members[k])
                r = records[rank]
                mx, my, a, b, c, reach, opacity, depth = r[MX], r[MY], r[CA], r[CB], r[CC], r[REACH], r[OPACITY], r[DEPTH]
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
                    s[W + j] = w
                    s[D + j] += w * depth
                for j in range(first, last):
                    w = s[W + j]
                    if w > f4(0.0):
                        for c16 in range(np.uint64(0), padded, np.uint64(LANES)):
                            add_scaled(s, ACC + j * padded + c16, w, colors, rank * padded + c16)
            for j in range(PIXELS):
                through = abs(s[T + j])
                alpha = f4(1.0) - through
                s[T + j], s[ALPHA + j] = through, alpha
                s[D + j] /= max(alpha, f4(1e-10))
            store_tile(s, T, T_flat, at, width, columns, rows)
            store_tile(s, ALPHA, alpha_flat, at, width, columns, rows)
            store_tile(s, D, depth_flat, at, width, columns, rows)
            store_tile(s, LAST, last_flat, at, width, columns, rows)
            for c in range(channels):
                for j in range(PIXELS):
                    s[PLANE + j] = s[ACC + j * padded + np.uint64(c)] + s[T + j] * background[c]
                store_tile(s, PLANE, pictures, c * height * width + at, width, columns, rows)
        fetch_add(claims, 8, 1)


@jit
def backward(
    claims: Any,
    scratch: Any,
    starts: Any,
    members: Any,
    records: Any,
    colors: Any,
    background: Any,
    T_out: Any,
    depth_out: Any,
    last_out: Any,
    v_image: Any,
    v_alpha: Any,
    v_depth: Any,
    partial: Any,  # out (pairs, 7 + C)
) -> None:
    """As compositing.backward, for any number of channels."""
    s = scratch
    channels, height, width = v_image.shape
    v_pictures, T_flat, v_alpha_flat = v_image.reshape(-1), T_out.reshape(-1), v_alpha.reshape(-1)
    depth_flat, v_depth_flat, last_flat = depth_out.reshape(-1), v_depth.reshape(-1), last_out.reshape(-1)
    padded = np.uint64((channels + LANES - 1) // LANES * LANES)
    sums = ACC + PIXELS * padded  # the gradient of one Gaussian's channels
    with_depth = len(v_depth) > 0
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
                s[T + j] = f4(1.0)
                s[LAST + j] = s[VD + j] = s[BEHIND + j] = s[DEPTH_OUT + j] = s[PLANE + j] = f4(0.0)
            s[ACC : ACC + PIXELS * padded] = f4(0.0)
            load_tile(s, T, T_flat, at, width, columns, rows)
            load_tile(s, LAST, last_flat, at, width, columns, rows)
            load_tile(s, BEHIND, v_alpha_flat, at, width, columns, rows)
            for j in range(PIXELS):
                s[BEHIND + j] = -s[BEHIND + j]
            if with_depth:
                load_tile(s, VD, v_depth_flat, at, width, columns, rows)
                load_tile(s, DEPTH_OUT, depth_flat, at, width, columns, rows)
                for j in range(PIXELS):
                    s[VD + j] /= max(f4(1.0) - s[T + j], f4(1e-10))
                    s[BEHIND + j] += s[VD + j] * s[DEPTH_OUT + j]
            for c in range(channels):
                load_tile(s, PLANE, v_pictures, c * height * width + at, width, columns, rows)
                for j in range(PIXELS):
                    s[ACC + j * padded + np.uint64(c)] = s[PLANE + j]
                    s[BEHIND + j] += background[c] * s[PLANE + j]
            latest = f4(0.0)
            for j in range(PIXELS):
                s[BEHIND + j] *= s[T + j]
                latest = max(latest, s[LAST + j])
            furthest = np.int64(latest)
            begin = starts[tile]
            partial[begin + furthest : starts[tile + 1]] = f4(0.0)
            for k in range(begin + furthest - 1, begin - 1, -1):
                number = f4(k - begin + 1)
                rank = np.uint64(members[k])
                r = records[rank]
                mx, my, a, b, c, reach, opacity, depth = r[MX], r[MY], r[CA], r[CB], r[CC], r[REACH], r[OPACITY], r[DEPTH]
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
                    s[T + j] = before
                    s[OVER + j] = over
                    s[ALPHA + j] = alpha
                    s[W + j] = alpha * before
                    s[CAPPED + j] = f4(0.0) if capped else f4(1.0)
                    s[LIGHT + j] = f4(0.0)
                s[sums : sums + padded] = f4(0.0)
                for j in range(first, last):
                    w = s[W + j]
                    if w > f4(0.0):
                        light = depth * s[VD + j]
                        for c16 in range(np.uint64(0), padded, np.uint64(LANES)):
                            light += dot(s, ACC + j * padded + c16, colors, rank * padded + c16)
                            add_scaled(s, sums + c16, w, s, ACC + j * padded + c16)
                        s[LIGHT + j] = light
                S = Sx = Sy = Sxx = Sxy = Syy = Sd = f4(0.0)
                for j in range(first, last):
                    dx, dy = s[PX + j] - mx, s[PY + j] - my
                    w, light, behind = s[W + j], s[LIGHT + j], s[BEHIND + j]
                    v_alpha_j = s[T + j] * light - s[OVER + j] * behind
                    s[BEHIND + j] = behind + w * light
                    v_sigma = -s[CAPPED + j] * s[ALPHA + j] * v_alpha_j
                    S += v_sigma
                    x, y = v_sigma * dx, v_sigma * dy
                    Sx += x
                    Sy += y
                    Sxx += x * dx
                    Sxy += x * dy
                    Syy += y * dy
                    Sd += w * s[VD + j]
                p = partial[k]
                p[0], p[1], p[2], p[3], p[4], p[5], p[6] = S, Sx, Sy, Sxx, Sxy, Syy, Sd
                for c in range(channels):
                    p[7 + c] = s[sums + np.uint64(c)]
        fetch_add(claims, 8, 1)
