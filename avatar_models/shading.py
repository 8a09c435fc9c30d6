"""A soft light for meshes: a key light from the upper left, a sky and a small highlight, fixed to the camera."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from avatar_models.mesh_render import vertex_normals

LIGHT = np.array([0.35, 0.5, 0.8]) / np.linalg.norm([0.35, 0.5, 0.8])


def light(
    vertices: NDArray[np.floating], faces: NDArray[np.int64], view: NDArray[np.float64], wet: NDArray[np.bool_] | None = None
) -> NDArray[np.float32]:
    """(V, 2) what falls on the vertices, to multiply a colour by, and the highlight, to add to it.

    `wet` (V,) vertices shine, as eyes do. view (4, 4) is world to camera.
    """
    normals = vertex_normals(vertices, faces) @ (np.diag([1.0, -1.0, -1.0]) @ view[:3, :3]).T
    key = np.clip(0.15 + 0.85 * normals @ LIGHT, 0.0, None)
    sky = 0.5 + 0.5 * normals[:, 1]
    half = (LIGHT + [0, 0, 1]) / np.linalg.norm(LIGHT + [0, 0, 1])
    shine = np.clip(normals @ half, 0, None)
    highlight = 0.06 * shine**12 if wet is None else np.where(wet, 0.5 * shine**60, 0.06 * shine**12)
    return np.stack([0.36 + 0.52 * key + 0.16 * sky, highlight], 1).astype(np.float32)


@numba.njit(nogil=True, cache=True)
def light_up(picture, triangle, shade, background):  # type: ignore[no-untyped-def]
    """Lights colours (H, W, 3) in place by what :func:`light` gives at the pixels (H, W, 2); background where triangle < 0.

    One pass: arrays of this size cost more to read and write than to multiply.
    """
    for y in range(picture.shape[0]):
        for x in range(picture.shape[1]):
            for c in range(3):
                lit = picture[y, x, c] * shade[y, x, 0] + shade[y, x, 1]
                picture[y, x, c] = lit if triangle[y, x] >= 0 else background[y, x, c]


def shaded(
    vertices: NDArray[np.floating], faces: NDArray[np.int64], view: NDArray[np.float64], color: NDArray[np.float32],
    wet: NDArray[np.bool_] | None = None,
) -> NDArray[np.float32]:  # fmt: skip
    """Vertex colours (V, 3) as the light shows them; the rest as for :func:`light`."""
    shown = light(vertices, faces, view, wet)
    return color * shown[:, :1] + shown[:, 1:]
