"""The face's surface as small Gaussians that a camera sees: where they are, what they face, and which of them are hidden.

M points, N frames; lengths in metres, pixels are those of the stored crop.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.spatial import Delaunay

from avatar_models.cameras import Camera, resized
from avatar_models.gaussians import Gaussians
from avatar_models.heads.interface import Head
from avatar_models.splatting import splat
from avatar_models.tracking.quality import FACE_OVAL

Array = NDArray[np.float64]
POINTS = 1500
"""About so many points of the face are compared with the pictures."""
DEPTH_SIDE = 96  # pixels of the depth pictures that tell which points are hidden
BEHIND = 0.008  # metres behind the foremost surface from which a point is hidden
GRAZING, OPEN = 0.25, 0.6  # cosine to the line of sight below which a point counts nothing, above which wholly
BATCH = 32  # frames posed together


@dataclass(frozen=True)
class Skin:
    """The points and what is needed for their normals."""

    head: Head
    vertices: NDArray[np.int64]  # (M,) of the head
    around: NDArray[np.int64]  # (T, 3) triangles that touch a point
    sums: csr_matrix  # (M, T): a point's normal is the sum over its triangles
    radius: float  # metres: half the distance between neighbours


def skin_of(head: Head, count: int = POINTS) -> Skin:
    """About `count` vertices of skin and eyes inside the detector's face contour, spread evenly."""
    template, faces = head.rig.template.double().numpy(), head.faces.numpy()
    marks = head.landmarks(head.rig.template[None])[0].double().numpy()
    inside = Delaunay(marks[:, :2]).find_simplex(template[:, :2]) >= 0
    inside &= template[:, 2] > marks[FACE_OVAL, 2].min()
    inside &= np.isin(np.arange(len(template)), faces)
    inside &= sum(head.masks[name].numpy() for name in ("skin", "eyes_left", "eyes_right")) > 0
    candidates = np.flatnonzero(inside)
    cell = _cell_for(template[candidates], count)
    vertices = candidates[_one_in_each_cell(template[candidates], cell)]
    touching = np.isin(faces, vertices).any(1)
    around = faces[touching]
    place = np.full(len(template), -1)
    place[vertices] = np.arange(len(vertices))
    rows = place[around.ravel()]
    columns = np.repeat(np.arange(len(around)), 3)
    mine = rows >= 0
    sums = csr_matrix((np.ones(mine.sum()), (rows[mine], columns[mine])), shape=(len(vertices), len(around)))
    return Skin(head, vertices, around, sums, cell / 2)


def _one_in_each_cell(points: Array, cell: float) -> NDArray[np.int64]:
    """Indices of the first of the points in each cube of a grid, in order."""
    _, first = np.unique(np.floor(points / cell).astype(np.int64), axis=0, return_index=True)
    return np.sort(first)


def _cell_for(points: Array, count: int) -> float:
    """Side of the cubes at which about `count` of the points are left, metres."""
    low, high = 1e-4, 0.05
    for _ in range(20):
        middle = float(np.sqrt(low * high))
        low, high = (middle, high) if len(_one_in_each_cell(points, middle)) > count else (low, middle)
    return high


@dataclass(frozen=True)
class View:
    """How N frames see the points."""

    normals: NDArray[np.float32]  # (N, M, 3) unit, in the camera's frame
    visible: NDArray[np.float32]  # (N, M) in [0, 1]


def view_of(
    skin: Skin, identity: Array, expression: Array, jaw: Array, eyes: Array, viewmat: Array, K: Array, size: tuple[int, int]
) -> View:
    """Poses the head in each frame; expression (N, E), jaw (N, 3), eyes (N, 6), viewmat (N, 4, 4), K (N, 3, 3).

    Points are hidden where the splatted surface lies before them. size: width and height of the pictures.
    """
    normals, visible = [], []
    for start in range(0, len(expression), BATCH):
        part = slice(start, start + BATCH)
        values = (expression[part], np.zeros_like(jaw[part]), jaw[part], eyes[part])
        with torch.no_grad():
            posed = skin.head.vertices(
                torch.from_numpy(identity[None]).float(), *(torch.from_numpy(value).float() for value in values)
            )
        camera = Camera(torch.from_numpy(K[part]).float(), torch.from_numpy(viewmat[part]).float(), *size)
        found = _normals(skin, posed, camera)
        points = posed[:, torch.from_numpy(skin.vertices)]
        normals.append(found)
        visible.append(_facing(found, points, camera) * _uncovered(skin, points, camera))
    return View(np.concatenate(normals), np.concatenate(visible))


def _normals(skin: Skin, posed: torch.Tensor, camera: Camera) -> NDArray[np.float32]:
    """(n, M, 3) in the camera's frame, of posed vertices (n, V, 3)."""
    corners = posed[:, torch.from_numpy(skin.around)].numpy()  # (n, T, 3, 3)
    flat = np.cross(corners[:, :, 1] - corners[:, :, 0], corners[:, :, 2] - corners[:, :, 0])
    sums = np.stack([skin.sums @ of_frame for of_frame in flat]).astype(np.float32)
    sums = sums @ camera.viewmat[:, :3, :3].mT.numpy()
    return np.asarray(sums / np.maximum(np.linalg.norm(sums, axis=-1, keepdims=True), 1e-12), np.float32)


def _facing(normals: NDArray[np.float32], points: torch.Tensor, camera: Camera) -> NDArray[np.float32]:
    """(n, M): 0 for points seen at a grazing angle or from behind, 1 for those that face the camera."""
    x = (points @ camera.viewmat[:, :3, :3].mT + camera.viewmat[:, None, :3, 3]).numpy()
    cosine = -(normals * x).sum(-1) / np.linalg.norm(x, axis=-1)
    return np.clip((cosine - GRAZING) / (OPEN - GRAZING), 0.0, 1.0)


def _uncovered(skin: Skin, points: torch.Tensor, camera: Camera) -> NDArray[np.float32]:
    """(n, M): 0 for points outside of the picture, and behind the surface that the points make when splatted."""
    width, height = DEPTH_SIDE, max(1, round(DEPTH_SIDE * camera.height / camera.width))
    small = resized(camera, width, height)
    M = len(skin.vertices)
    quats, scales = torch.tensor([[1.0, 0, 0, 0]]).expand(M, 4), torch.full((M, 3), skin.radius)
    found = np.empty(points.shape[:2], np.float32)
    for n in range(len(points)):
        gaussians = Gaussians(points[n], quats, scales, torch.full((M,), 0.95), torch.zeros(M, 1))
        seen = splat(gaussians, small[n : n + 1])
        depth = seen.depth[0, 0].numpy()
        x = points[n] @ small.viewmat[n, :3, :3].mT + small.viewmat[n, :3, 3]
        u = ((x @ small.K[n].mT)[:, :2] / x[:, 2:]).numpy()
        column, row = (np.clip(u[:, k].astype(int), 0, side - 1) for k, side in ((0, width), (1, height)))
        front = depth[row, column]
        inside = ((u >= 0) & (u < (width, height))).all(1)
        found[n] = inside & ((front == 0) | (x[:, 2].numpy() < front + BEHIND))
    return found
