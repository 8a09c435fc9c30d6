"""One tile of a picture in a thread's scratch: a row of TILE_H x TILE_W floats for each quantity of its pixels.

All places in the scratch are unsigned: a signed index might be negative, which keeps numba from using vectors.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from avatar_models.kernels.lanes import LANES, copy_eight, jit
from avatar_models.kernels.maths import f4

TILE_W, TILE_H = 8, 16
PIXELS = np.uint64(TILE_W * TILE_H)
COLUMNS = np.uint64(TILE_W)
ROWS_A_VECTOR = LANES // TILE_W


@jit
def tile_bounds(tile: int, width: int, height: int) -> Any:
    """The first pixel x0, y0 of a tile, and how many columns and rows of it are in the picture."""
    tiles_x = (width + TILE_W - 1) // TILE_W
    y0, x0 = (tile // tiles_x) * TILE_H, (tile % tiles_x) * TILE_W
    return x0, y0, min(TILE_W, width - x0), min(TILE_H, height - y0)


@jit
def place_pixels(s: Any, PX: Any, PY: Any, x0: int, y0: int) -> None:
    """Pixel centres of a tile whose first pixel is (x0, y0)."""
    for j in range(PIXELS):
        s[PX + j] = f4(x0) + f4(j & (COLUMNS - np.uint64(1))) + f4(0.5)
        s[PY + j] = f4(y0) + f4(j // COLUMNS) + f4(0.5)


@jit
def rows_of(mean_y: Any, extent_y: Any, y0: int) -> Any:
    """Pixels [first, last) of a tile in the rows that a Gaussian's box touches, in whole vectors."""
    low = np.int64(np.ceil(mean_y - extent_y - f4(0.5))) - y0
    high = np.int64(np.floor(mean_y + extent_y - f4(0.5))) - y0 + 1
    low, high = max(low, 0) // ROWS_A_VECTOR, (min(high, TILE_H) + ROWS_A_VECTOR - 1) // ROWS_A_VECTOR
    return np.uint64(low * LANES), np.uint64(high * LANES)


@jit
def any_open(s: Any, T: Any) -> bool:
    """Whether any pixel of the tile still takes light; closed ones have a negative T."""
    count = f4(0.0)
    for j in range(PIXELS):
        count += f4(1.0) if s[T + j] > f4(0.0) else f4(0.0)
    return count > f4(0.0)


@jit
def store_tile(s: Any, row: Any, plane: Any, at: int, stride: int, columns: int, rows: int) -> None:
    """Writes a row of the scratch into a picture (flat), whose pixel `at` is the tile's first."""
    j, place = np.uint64(row), np.uint64(at)
    for _ in range(rows):
        if columns == TILE_W:
            copy_eight(plane, place, s, j)
        else:
            for x in range(np.uint64(columns)):
                plane[place + x] = s[j + x]
        j += COLUMNS
        place += np.uint64(stride)


@jit
def load_tile(s: Any, row: Any, plane: Any, at: int, stride: int, columns: int, rows: int) -> None:
    """Reads a tile of a picture (flat) into a row of the scratch; pixels outside of the picture keep what was there."""
    j, place = np.uint64(row), np.uint64(at)
    for _ in range(rows):
        if columns == TILE_W:
            copy_eight(s, j, plane, place)
        else:
            for x in range(np.uint64(columns)):
                s[j + x] = plane[place + x]
        j += COLUMNS
        place += np.uint64(stride)
