"""Where the detector's 478 points lie on a head's surface, found by asking the detector itself.

A head is rendered with many identities, expressions and poses; each detected point names the place of the mesh that its
pixel shows, which is a vote in the neutral head. The votes' median is laid on the nearest triangle. What is left between
these places and what the detector shows, an offset and how it slides as the view changes, is found by ridge regression
over all pictures. Points that remain uncertain get a low weight.

    python -m avatar_models.tracking.embedding

makes the asset of the procedural head anew and prints the report.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import cv2
import mediapipe as mp
import numpy as np
import torch
from numpy.typing import NDArray

from avatar_models.heads.embedding import NUM_LANDMARKS, LandmarkEmbedding
from avatar_models.heads.look import plain_look
from avatar_models.heads.skinning import Rig, pose
from avatar_models.mesh_render import Surface, rasterise
from avatar_models.shading import light
from avatar_models.tracking.landmark_head import NUM_VIEW_TERMS, view_terms
from avatar_models.tracking.landmarker import quiet_native_log
from avatar_models.tracking.quality import INNER, IRISES, LIPS, inter_ocular

Array = NDArray[np.float64]
SIZE = 384  # pixels
FOCAL, DISTANCE = 2.4 * SIZE, 0.92  # pixels, metres
WALL = 0.75
IDENTITY_SIGMA = 0.8
JAW_MAX = 0.35  # radians
OPEN = 0.1  # radians of the jaw from which the lips' inner edges are told apart
NEAR_FRONT = 0.45  # radians: votes are taken from such views
OFFSET_SIGMA, SLIDE_SIGMA = 0.005, 0.006  # metres, of the ridge
FIRST_PICTURES = 300
PIXELS_SIGMA = 4.5  # of a detection, in the same
WILD = 0.12  # of the distance between the eyes: a picture whose median residual is larger was not understood

Paint = Callable[[Surface], NDArray[np.float32]]
"""Colours (H, W, 3) in [0, 1] of what the pixels show, before the light."""
Look = Callable[[np.random.Generator], Paint]
"""How the head is painted, another person's paint at each call."""


@dataclass(frozen=True)
class EmbeddingReport:
    """How good an embedding is."""

    pictures: int
    found: float  # share of the pictures in which the detector found the face
    votes_mm: float  # median distance of a vote to its point's place
    surface_mm: float  # median distance of the votes' median to the surface
    before: float  # median distance of detected to projected places, over the distance between the eyes
    after: float  # and with offsets and slides
    scatter: Array  # (478,) of each point, over the distance between the eyes
    known: int = 0  # points whose places were given, not voted for

    def lines(self) -> list[str]:
        inner = self.scatter[INNER]
        given = f"{self.known} points lie where the embedding beside the model says, the others were voted for"
        return [given][: self.known] + [
            f"the detector found {self.found:.1%} of {self.pictures} pictures",
            f"votes lie {self.votes_mm:.2f} mm from their point's place, the places {self.surface_mm:.2f} mm from the surface",
            f"detected to projected, over the eyes' distance: {self.before:.2%}, with offsets and slides {self.after:.2%}",
            f"scatter of the inner points: median {np.median(inner):.2%}, worst {inner.max():.2%}",
        ]


@dataclass(frozen=True)
class KnownPlaces:
    """Places of some of the detector's points that are known from elsewhere. K points."""

    points: NDArray[np.int64]  # (K,) their numbers
    faces: NDArray[np.int64]  # (K,) triangles of the head
    barycentric: Array  # (K, 3)


@dataclass(frozen=True)
class _Pictures:
    """What was rendered and what the detector saw: M pictures."""

    identity: Array  # (M, I)
    expression: Array  # (M, E)
    jaw: Array  # (M, 3)
    eyes: Array  # (M, 6)
    view: Array  # (M, 4, 4)
    points: Array  # (M, 478, 2) pixels
    triangle: NDArray[np.int64]  # (M, 478) that the point's pixel shows, -1 for none
    barycentric: Array  # (M, 478, 3)


def embed(
    rig: Rig, faces: torch.Tensor, masks: Mapping[str, torch.Tensor], one_sided: bool, look: Look | None = None, *,
    known: KnownPlaces | None = None, pictures: int = 1200, seed: int = 7,
) -> tuple[LandmarkEmbedding, EmbeddingReport]:  # fmt: skip
    """The embedding of a head with the masks skin, eyes_left and eyes_right (V,) bool, on which the points may lie.

    Points whose places are known keep them, without an offset; how they slide and how sure they are is measured as for all.
    Without a look, the head is painted after a first round that finds where its lips and brows are. Raises ValueError
    where the detector does not find the face in a fifth of the pictures.
    """
    triangles = faces.numpy()
    template = rig.template.double().numpy()
    skin, eyes = masks["skin"].numpy(), (masks["eyes_left"] | masks["eyes_right"]).numpy()
    if look is None:
        bare = _of_vertices(plain_look(template, masks, None), triangles)
        shown = _render_and_detect(rig, triangles, one_sided, bare, FIRST_PICTURES, seed + 1)
        chosen, weights, _, _ = _places(shown, template, triangles, skin, eyes)
        points = np.einsum("pk,pkc->pc", weights, template[triangles[chosen]])
        look = _of_vertices(plain_look(template, masks, points), triangles)
    shown = _render_and_detect(rig, triangles, one_sided, look, pictures, seed)
    chosen, weights, votes_mm, surface_mm = _places(shown, template, triangles, skin, eyes)
    fixed = np.zeros(NUM_LANDMARKS, bool)
    if known is not None:
        fixed[known.points] = True
        chosen[known.points], weights[known.points] = known.faces, known.barycentric
    marks = _landmarks(rig, shown, triangles[chosen], weights)
    offsets, slides, before, after, scatter = _response(shown, marks, fixed)
    spread = np.median(scatter) / scatter
    embedding = LandmarkEmbedding(
        torch.from_numpy(chosen),
        torch.from_numpy(weights.astype(np.float32)),
        torch.from_numpy((np.minimum(spread**2, 4.0) / 4.0).astype(np.float32)),
        torch.from_numpy(offsets.astype(np.float32)),
        torch.from_numpy(slides.astype(np.float32)),
    )
    found = len(shown.points) / pictures
    return embedding, EmbeddingReport(pictures, found, votes_mm, surface_mm, before, after, scatter, int(fixed.sum()))


def _of_vertices(colours: Callable[[np.random.Generator], NDArray[np.float32]], faces: NDArray[np.int64]) -> Look:
    """A look made of vertex colours (V, 3)."""

    def look(rng: np.random.Generator) -> Paint:
        drawn = colours(rng)
        return lambda surface: surface.interpolate(faces, drawn)

    return look


def _render_and_detect(rig: Rig, faces: NDArray[np.int64], one_sided: bool, look: Look, pictures: int, seed: int) -> _Pictures:
    rng = np.random.default_rng(seed)
    K = np.array([[FOCAL, 0, SIZE / 2], [0, FOCAL, SIZE / 2], [0, 0, 1.0]])
    I, E = len(rig.identity_basis), len(rig.expression_basis)
    with quiet_native_log():
        detector = mp.solutions.face_mesh.FaceMesh(static_image_mode=True, refine_landmarks=True, max_num_faces=1)
    rows = []
    for number in range(pictures):
        if number % 8 == 0:
            identity, paint = rng.normal(0.0, IDENTITY_SIGMA, I).clip(-2, 2), look(rng)
        expression = _expression(rng, E, one_sided)
        jaw = np.array([JAW_MAX * rng.random() ** 1.5 * (rng.random() < 0.7), 0.0, 0.0])
        gaze = np.array([0.12, 0.25, 0.0]) * rng.normal(size=3)
        view = _view(rng)
        values = (identity, expression, np.zeros(3), jaw, np.tile(gaze, 2))
        vertices = pose(rig, *(torch.tensor(value, dtype=torch.float32)[None] for value in values))[0].numpy()
        surface = rasterise(vertices, faces, K, view, SIZE, SIZE)
        shade = surface.interpolate(faces, light(vertices, faces, view))
        picture = np.where(surface.triangle[..., None] >= 0, paint(surface) * shade[..., :1] + shade[..., 1:], WALL)
        marks = detector.process((np.clip(picture, 0, 1) * 255).astype(np.uint8)).multi_face_landmarks
        if marks:
            points = np.array([(mark.x, mark.y) for mark in marks[0].landmark]) * SIZE
            x, y = np.clip(points.astype(int), 0, SIZE - 1).T
            rows.append((*values[:2], jaw, values[4], view, points, surface.triangle[y, x], surface.barycentric[y, x]))
    detector.close()
    if len(rows) < pictures / 5:
        raise ValueError(f"the detector found the face in {len(rows)} of {pictures} pictures; does the head look like one?")
    return _Pictures(*(np.array(column) for column in zip(*rows, strict=True)))


def _expression(rng: np.random.Generator, size: int, one_sided: bool) -> Array:
    if not one_sided:
        return np.asarray(0.7 * rng.normal(size=size))
    return np.where(rng.random(size) < 0.25, rng.random(size) ** 1.3, 0.0)


def _view(rng: np.random.Generator) -> Array:
    pitch, yaw, roll = (rng.normal(size=3) * [0.2, 0.4, 0.1]).clip(-0.7, 0.7)
    view = np.eye(4)
    turn = [cv2.Rodrigues(np.array(axis))[0] for axis in ([0, yaw, 0.0], [pitch, 0, 0.0], [0, 0, roll])]
    view[:3, :3] = np.diag([1.0, -1.0, -1.0]) @ turn[0] @ turn[1] @ turn[2]
    view[:3, 3] = np.array([0, 0.015, DISTANCE]) + rng.normal(size=3) * [0.01, 0.01, 0.02]
    return view


def _places(
    shown: _Pictures, template: Array, faces: NDArray[np.int64], skin: NDArray[np.bool_], eyes: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], Array, float, float]:
    """(triangle, barycentric weights) of each point, and the median distances of votes to places and places to surface, mm."""
    of_skin, of_eyes = skin[faces].all(1), eyes[faces].all(1)
    away = np.arccos(np.clip(-shown.view[:, 2, 2], -1, 1))  # between the line of sight and where the head looks
    voter = np.repeat((away < NEAR_FRONT)[:, None], NUM_LANDMARKS, 1)
    voter[:, LIPS] &= (shown.jaw[:, 0] > OPEN)[:, None]
    allowed = np.where(np.isin(np.arange(NUM_LANDMARKS), IRISES)[None], of_eyes[shown.triangle], of_skin[shown.triangle])
    voter &= allowed & (shown.triangle >= 0)
    place = np.einsum("mpk,mpkc->mpc", shown.barycentric, template[faces[shown.triangle]])
    votes = np.where(voter[..., None], place, np.nan)
    few = np.flatnonzero(voter.sum(0) < 5)
    if len(few):
        raise ValueError(
            f"points {few[:10].tolist()} of the detector show the head's {'eyes' if few[0] in IRISES else 'skin'} nowhere"
        )
    places = np.nanmedian(votes, 0)
    spread = np.nanmedian(np.linalg.norm(votes - places, axis=-1))
    on_skin = _closest(places, template, faces, np.flatnonzero(of_skin))
    on_eyes = _closest(places[IRISES], template, faces, np.flatnonzero(of_eyes))
    for whole, part in zip(on_skin, on_eyes, strict=True):
        whole[IRISES] = part
    return on_skin[0], on_skin[1], 1e3 * float(spread), 1e3 * float(np.median(on_skin[2]))


def _closest(
    places: Array, template: Array, faces: NDArray[np.int64], allowed: NDArray[np.int64]
) -> tuple[NDArray[np.int64], Array, Array]:
    """(triangle, barycentric weights, distance) of the nearest point of the allowed triangles for each place."""
    corners = template[faces[allowed]]
    centres = corners.mean(1)
    triangle, weights, distances = [], [], []
    for place in places:
        near = np.argsort(np.linalg.norm(centres - place, axis=1))[:60]
        best = min(((*_closest_of(place, corners[k]), k) for k in near), key=lambda found: found[1])
        triangle.append(allowed[best[2]])
        weights.append(best[0])
        distances.append(best[1])
    return np.array(triangle), np.array(weights), np.array(distances)


def _closest_of(p: Array, corners: Array) -> tuple[Array, float]:
    """Barycentric weights of the point of a triangle nearest to p, and its distance."""
    edges = np.stack([corners[1] - corners[0], corners[2] - corners[0]], 1)
    u, v = np.linalg.lstsq(edges, p - corners[0], rcond=None)[0]
    candidates = [np.array([1 - u - v, u, v])] if u >= 0 and v >= 0 and u + v <= 1 else []
    for i, j in ((0, 1), (1, 2), (2, 0)):
        edge = corners[j] - corners[i]
        t = float(np.clip((p - corners[i]) @ edge / max(edge @ edge, 1e-18), 0, 1))
        weight = np.zeros(3)
        weight[i], weight[j] = 1 - t, t
        candidates.append(weight)
    return min(((w, float(np.linalg.norm(w @ corners - p))) for w in candidates), key=lambda found: found[1])


def _landmarks(rig: Rig, shown: _Pictures, corners: NDArray[np.int64], weights: Array) -> Array:
    """Where the points' places are in each picture, (M, 478, 3) in the head's frame."""
    part = rig.to(dtype=torch.float64).take(torch.from_numpy(corners.flatten()))
    found = []
    for k in range(len(shown.points)):
        values = (shown.identity[k], shown.expression[k], np.zeros(3), shown.jaw[k], shown.eyes[k])
        vertices = pose(part, *(torch.tensor(value, dtype=torch.float64)[None] for value in values))[0].numpy()
        found.append((vertices.reshape(-1, 3, 3) * weights[..., None]).sum(1))
    return np.stack(found)


def _response(shown: _Pictures, marks: Array, fixed: NDArray[np.bool_]) -> tuple[Array, Array, float, float, Array]:
    """Offsets (478, 3) and slides (terms, 478, 3) by robust ridge regression of the detections on the view.

    Fixed points (478,) have no offset.
    Also the median residual before and after over the distance between the eyes, and each point's own after, (478,).
    """
    R, t = shown.view[:, :3, :3], shown.view[:, :3, 3]
    x = marks @ R.transpose(0, 2, 1) + t[:, None]
    pixels = x[..., :2] / x[..., 2:] * FOCAL + SIZE / 2
    residual = shown.points - pixels
    over = 1 / inter_ocular(pixels)
    D = np.zeros((*x.shape[:2], 2, 3))
    D[..., 0, 0] = D[..., 1, 1] = FOCAL / x[..., 2]
    D[..., 0, 2], D[..., 1, 2] = -FOCAL * x[..., 0] / x[..., 2] ** 2, -FOCAL * x[..., 1] / x[..., 2] ** 2
    DR = D @ R[:, None]
    phi = np.concatenate([np.ones((len(x), 1)), view_terms(R, t)], 1)  # (M, 1 + terms)
    seen = np.median(np.linalg.norm(residual, axis=-1)[:, INNER], 1) * over < WILD
    ridge = np.diag(PIXELS_SIGMA**2 / np.repeat([OFFSET_SIGMA, *[SLIDE_SIGMA] * NUM_VIEW_TERMS], 3) ** 2)
    fields = np.zeros((phi.shape[1], NUM_LANDMARKS, 3))
    for p in range(NUM_LANDMARKS):
        terms = phi[seen] * ([0.0] + [1.0] * NUM_VIEW_TERMS if fixed[p] else 1.0)  # what sees nothing, the ridge holds at zero
        A = (terms[:, None, :, None] * DR[seen][:, p, :, None, :]).reshape(-1, 3 * phi.shape[1])
        b = residual[seen][:, p].reshape(-1)
        weight = np.ones(len(b))
        for _ in range(3):
            solved = np.linalg.solve((A * weight[:, None]).T @ A + ridge, (A * weight[:, None]).T @ b)
            error = np.linalg.norm((b - A @ solved).reshape(-1, 2), axis=1)
            weight = np.repeat(1 / (1 + (error / (4.5 * np.median(error) + 1e-9)) ** 2) ** 2, 2)
        fields[:, p] = solved.reshape(-1, 3)
    left = residual - np.einsum("mpij,mk,kpj->mpi", DR, phi, fields)
    length = np.linalg.norm(left, axis=-1) * over[:, None]
    before = np.median((np.linalg.norm(residual, axis=-1) * over[:, None])[seen][:, INNER])
    return fields[0], fields[1:], float(before), float(np.median(length[seen][:, INNER])), np.median(length[seen], 0) / 1.18


def _embed_procedural() -> None:
    from avatar_models.heads.embedding import save_embedding
    from avatar_models.heads.procedural import EMBEDDING, procedural_masks, procedural_rig
    from avatar_models.heads.procedural_mesh import head_mesh
    from avatar_models.heads.procedural_paint import head_texture
    from avatar_models.people import palette_of

    faces = torch.from_numpy(head_mesh().faces)

    def look(rng: np.random.Generator) -> Paint:
        texture = head_texture(palette_of(rng), side=512)  # as fine as these pictures
        return lambda surface: surface.sample(texture)

    embedding, report = embed(procedural_rig()[0], faces, procedural_masks(), True, look)
    save_embedding(EMBEDDING, embedding)
    print("\n".join(report.lines()))


if __name__ == "__main__":
    _embed_procedural()
