"""A small z-buffer rasteriser for coloured triangle meshes: made-up people, overlays, and which surface point a pixel shows.

One thread, numba. Cameras are OpenCV's, pixel centres at +0.5.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

Array32 = NDArray[np.float32]


@dataclass(frozen=True)
class Texture:
    """A picture that lies on a mesh. F triangles, T places in the picture."""

    image: Array32  # (H, W, C)
    places: Array32  # (T, 2) x, y in its pixels, centres at +0.5
    faces: NDArray[np.int64]  # (F, 3) the places of the triangles' corners


@dataclass(frozen=True)
class Surface:
    """What each pixel shows: triangle (H, W), -1 for none, its barycentric weights (H, W, 3), perspective-correct."""

    triangle: NDArray[np.int32]
    barycentric: Array32

    def interpolate(self, faces: NDArray[np.int64], values: Array32) -> Array32:
        """Vertex values (V, C) at the pixels (H, W, C); zero where there is no surface."""
        picture = np.zeros((*self.triangle.shape, values.shape[1]), np.float32)
        _interpolate(
            self.triangle,
            self.barycentric,
            np.ascontiguousarray(faces),
            np.ascontiguousarray(values, np.float32),
            picture,
        )
        return picture

    def sample(self, texture: Texture) -> Array32:
        """The texture at the pixels (H, W, C), bilinear; zero where there is no surface, or a triangle without a place."""
        picture = np.zeros((*self.triangle.shape, texture.image.shape[2]), np.float32)
        _sample(self.triangle, self.barycentric, texture.faces, texture.places, texture.image, picture)
        return picture


def rasterise(
    vertices: NDArray[np.floating], faces: NDArray[np.int64], K: NDArray[np.floating], viewmat: NDArray[np.floating],
    width: int, height: int,
) -> Surface:  # fmt: skip
    """The nearest triangle of vertices (V, 3) in metres and faces (F, 3) at each pixel. Triangles behind 1 cm are left out."""
    camera = np.asarray(vertices, np.float64) @ viewmat[:3, :3].T + viewmat[:3, 3]
    z = np.maximum(camera[:, 2], 1e-6)
    pixels = np.stack([K[0, 0] * camera[:, 0] / z + K[0, 2], K[1, 1] * camera[:, 1] / z + K[1, 2]], 1)
    triangle = np.full((height, width), -1, np.int32)
    barycentric = np.zeros((height, width, 3), np.float32)
    _rasterise(pixels, camera[:, 2], np.ascontiguousarray(faces), triangle, barycentric)
    return Surface(triangle, barycentric)


@numba.njit(nogil=True, cache=True)
def _rasterise(pixels, depth, faces, triangle, barycentric):  # type: ignore[no-untyped-def]
    height, width = triangle.shape
    nearest = np.full((height, width), 0.0)  # inverse depth
    for f in range(len(faces)):
        a, b, c = faces[f]
        if depth[a] < 0.01 or depth[b] < 0.01 or depth[c] < 0.01:
            continue
        ax, ay, bx, by, cx, cy = pixels[a, 0], pixels[a, 1], pixels[b, 0], pixels[b, 1], pixels[c, 0], pixels[c, 1]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if abs(area) < 1e-9:
            continue
        x0, x1 = max(0, int(np.floor(min(ax, bx, cx)))), min(width - 1, int(np.ceil(max(ax, bx, cx))))
        y0, y1 = max(0, int(np.floor(min(ay, by, cy)))), min(height - 1, int(np.ceil(max(ay, by, cy))))
        for y in range(y0, y1 + 1):
            for x in range(x0, x1 + 1):
                px, py = x + 0.5, y + 0.5
                u = ((bx - px) * (cy - py) - (by - py) * (cx - px)) / area
                v = ((cx - px) * (ay - py) - (cy - py) * (ax - px)) / area
                w = 1.0 - u - v
                if u < 0 or v < 0 or w < 0:
                    continue
                u, v, w = u / depth[a], v / depth[b], w / depth[c]
                inverse = u + v + w
                if inverse > nearest[y, x]:
                    nearest[y, x] = inverse
                    triangle[y, x] = f
                    barycentric[y, x, 0], barycentric[y, x, 1], barycentric[y, x, 2] = (
                        u / inverse,
                        v / inverse,
                        w / inverse,
                    )


@numba.njit(nogil=True, cache=True)
def _interpolate(triangle, barycentric, faces, values, picture):  # type: ignore[no-untyped-def]
    height, width, channels = picture.shape
    for y in range(height):
        for x in range(width):
            f = triangle[y, x]
            if f < 0:
                continue
            for c in range(channels):
                total = barycentric[y, x, 0] * values[faces[f, 0], c]
                total += barycentric[y, x, 1] * values[faces[f, 1], c]
                picture[y, x, c] = total + barycentric[y, x, 2] * values[faces[f, 2], c]


@numba.njit(nogil=True, cache=True)
def _sample(triangle, barycentric, faces, places, image, picture):  # type: ignore[no-untyped-def]
    height, width, channels = picture.shape
    rows, columns = image.shape[:2]
    for y in range(height):
        for x in range(width):
            f = triangle[y, x]
            if f < 0 or f >= len(faces):
                continue
            a, b, c = faces[f]
            u, v, w = barycentric[y, x]
            column = u * places[a, 0] + v * places[b, 0] + w * places[c, 0] - np.float32(0.5)
            row = u * places[a, 1] + v * places[b, 1] + w * places[c, 1] - np.float32(0.5)
            column = min(max(column, np.float32(0.0)), np.float32(columns - 1.001))
            row = min(max(row, np.float32(0.0)), np.float32(rows - 1.001))
            i, j = int(row), int(column)
            down, across = row - i, column - j
            for k in range(channels):
                upper = image[i, j, k] + across * (image[i, j + 1, k] - image[i, j, k])
                lower = image[i + 1, j, k] + across * (image[i + 1, j + 1, k] - image[i + 1, j, k])
                picture[y, x, k] = upper + down * (lower - upper)


def vertex_normals(vertices: NDArray[np.floating], faces: NDArray[np.int64]) -> Array32:
    """Area-weighted unit normals (V, 3)."""
    corners = vertices[faces]
    flat = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.stack([np.bincount(faces.ravel(), np.repeat(flat[:, k], 3), len(vertices)) for k in range(3)], 1)
    return (normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)).astype(np.float32)
