"""Where the detector's 478 points lie on a head's surface, found by asking the detector itself.

    python -m avatar_models.tracking.embedding

Made-up people are filmed from many sides with their mouths a little open; each detected point names the triangle that
its pixel shows, which is a vote in the neutral head. The votes' median is laid on the nearest triangle. Points that the
votes do not agree on get a low weight. Writes the asset of the procedural head and prints a report.
"""

from __future__ import annotations

import cv2
import mediapipe as mp
import numpy as np
from numpy.typing import NDArray

from avatar_models.heads import procedural_shape as shape
from avatar_models.heads.procedural import EMBEDDING, procedural_head
from avatar_models.heads.procedural_mesh import EYE_LEFT, EYE_RIGHT, SKIN, head_mesh
from avatar_models.mesh_render import rasterise
from avatar_models.people import Performance, camera_for, film, make_person, posed_vertices
from avatar_models.tracking.detect import quiet_native_log
from avatar_models.tracking.quality import FACE_OVAL, IRISES

Array = NDArray[np.float64]
SIZE = 512
PEOPLE = range(6)
YAWS = np.radians([-24, -12, 0, 12, 24])
PITCHES = np.radians([-8, 6])
JAW_OPEN = 0.06
AGREEMENT_MM = 3.0  # a spread of the votes at which a point's weight has fallen to a half
INNER_UPPER = np.array([78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308])
INNER_LOWER = np.array([95, 88, 178, 87, 14, 317, 402, 318, 324])
LID_RING = np.array(
    [33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246,
     263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466]
)  # fmt: skip


def votes() -> tuple[Array, float]:
    """(views, 478, 3) places in the neutral head in mm, NaN where a pixel shows no surface; and the share of views found."""
    head, mesh = procedural_head(), head_mesh()
    faces = head.faces.numpy()
    K, distance = camera_for(SIZE)
    with quiet_native_log():
        detector = mp.solutions.face_mesh.FaceMesh(static_image_mode=True, refine_landmarks=True, max_num_faces=1)
    found = []
    views = 0
    for seed in PEOPLE:
        person = make_person(1000 + seed)
        for yaw in YAWS:
            for pitch in PITCHES:
                views += 1
                still = Performance(
                    25.0, np.zeros((1, head.num_expression), np.float32), np.array([[JAW_OPEN, 0, 0]], np.float32),
                    np.zeros((1, 6), np.float32), np.array([[pitch, yaw, 0.0]]), np.zeros((1, 3)),
                )  # fmt: skip
                view = _view(pitch, yaw, distance)
                picture = film(person, still, 0, SIZE, view, K)
                marks = detector.process(picture).multi_face_landmarks
                if not marks:
                    continue
                pixels = np.array([(m.x, m.y) for m in marks[0].landmark]) * SIZE
                surface = rasterise(posed_vertices(person, still, 0), faces, K, view, SIZE, SIZE)
                at = np.clip(pixels.astype(int), 0, SIZE - 1)
                triangle, weights = surface.triangle[at[:, 1], at[:, 0]], surface.barycentric[at[:, 1], at[:, 0]]
                place = np.einsum("pk,pkc->pc", weights, mesh.vertices[faces[np.maximum(triangle, 0)]])
                found.append(np.where(triangle[:, None] >= 0, place, np.nan))
    return np.array(found), len(found) / views


def _view(pitch: float, yaw: float, distance: float) -> Array:
    view = np.eye(4)
    turn = cv2.Rodrigues(np.array([0, yaw, 0.0]))[0] @ cv2.Rodrigues(np.array([pitch, 0, 0.0]))[0]
    view[:3, :3] = np.diag([1.0, -1.0, -1.0]) @ turn
    view[:3, 3] = [0, 0.015, distance]
    return view


def symmetric(places: Array) -> Array:
    """Places (478, 3) made mirror-symmetric: each point is averaged with the mirror image of its partner."""
    flipped = places * [-1.0, 1.0, 1.0]
    partner = np.linalg.norm(places[:, None] - flipped[None], axis=-1).argmin(1)
    mutual = partner[partner] == np.arange(len(places))
    return np.where(mutual[:, None], (places + flipped[partner]) / 2, places)


def closest_on_surface(places: Array, allowed: NDArray[np.int64]) -> tuple[NDArray[np.int64], Array, Array]:
    """(triangle, barycentric weights, distance in mm) of the nearest point of the allowed triangles for each place."""
    mesh = head_mesh()
    corners = mesh.vertices[mesh.faces[allowed]]
    centres = corners.mean(1)
    triangle, weights, distances = [], [], []
    for place in places:
        near = np.argsort(np.linalg.norm(centres - place, axis=1))[:40]
        best = min(((*_closest(place, corners[k]), k) for k in near), key=lambda found: found[1])
        triangle.append(allowed[best[2]])
        weights.append(best[0])
        distances.append(best[1])
    return np.array(triangle), np.array(weights), np.array(distances)


def _closest(p: Array, corners: Array) -> tuple[Array, float]:
    """Barycentric weights of the point of a triangle nearest to p, and its distance."""
    edges = np.stack([corners[1] - corners[0], corners[2] - corners[0]], 1)
    u, v = np.linalg.lstsq(edges, p - corners[0], rcond=None)[0]
    candidates = [np.array([1 - u - v, u, v])] if u >= 0 and v >= 0 and u + v <= 1 else []
    for i, j in ((0, 1), (1, 2), (2, 0)):
        edge = corners[j] - corners[i]
        t = float(np.clip((p - corners[i]) @ edge / max(edge @ edge, 1e-12), 0, 1))
        weight = np.zeros(3)
        weight[i], weight[j] = 1 - t, t
        candidates.append(weight)
    return min(((w, float(np.linalg.norm(w @ corners - p))) for w in candidates), key=lambda found: found[1])


def make_embedding() -> None:
    """Computes the embedding, writes it and prints a report."""
    mesh = head_mesh()
    cast, share = votes()
    places = np.nanmedian(cast, 0)
    spread = np.nanmedian(np.linalg.norm(cast - places, axis=-1), 0)
    places = symmetric(places)

    part_of_face = mesh.part[mesh.faces[:, 0]]
    skin = np.flatnonzero(part_of_face == SKIN)
    triangle, weights, distance = closest_on_surface(places, skin)
    # The inner lips lie on the slit's own edges, the lids' points on the opening's edge, the irises on the eyeballs.
    for group, edge in ((INNER_UPPER, mesh.slit_upper), (INNER_LOWER, mesh.slit_lower)):
        for point in group:
            vertex = edge[np.abs(mesh.vertices[edge, 0] - places[point, 0]).argmin()]
            triangle[point], weights[point] = _at_vertex(vertex, skin)
    contour = shape.eye_opening(40)
    for point in LID_RING:
        side = np.sign(places[point, 0])
        target = contour[np.linalg.norm(contour * [side, 1] - places[point, :2], axis=1).argmin()] * [side, 1]
        candidates = np.unique(mesh.faces[skin])
        candidates = candidates[mesh.vertices[candidates, 2] > 0]
        vertex = candidates[np.linalg.norm(mesh.vertices[candidates, :2] - target, axis=1).argmin()]
        triangle[point], weights[point] = _at_vertex(vertex, skin)
    for point in IRISES:
        ball = np.flatnonzero(part_of_face == (EYE_LEFT if places[point, 0] > 0 else EYE_RIGHT))
        (triangle[point],), (weights[point],), _ = closest_on_surface(places[point : point + 1], ball)
    trust = 1.0 / (1.0 + (spread / AGREEMENT_MM) ** 2)
    np.savez(
        EMBEDDING,
        faces=triangle.astype(np.int64),
        barycentric=weights.astype(np.float32),
        weights=trust.astype(np.float32),
    )
    inner = np.setdiff1d(np.arange(478), FACE_OVAL)
    print(f"the detector found {share:.1%} of the views")
    print(
        f"spread of the votes in mm: median {np.median(spread[inner]):.2f}, worst of the inner points {spread[inner].max():.2f}"
    )
    print(
        f"distance of the votes' median to the surface in mm: median {np.median(distance):.2f}, "
        f"95th percentile {np.percentile(distance, 95):.2f}"
    )
    print(f"wrote {EMBEDDING.name}")


def _at_vertex(vertex: int, faces: NDArray[np.int64]) -> tuple[int, Array]:
    """A triangle that has the vertex, and the weights that mean it."""
    mesh = head_mesh()
    row = faces[np.flatnonzero((mesh.faces[faces] == vertex).any(1))[0]]
    return int(row), (mesh.faces[row] == vertex).astype(np.float64)


if __name__ == "__main__":
    make_embedding()
