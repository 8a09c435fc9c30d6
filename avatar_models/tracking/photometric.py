"""Photometric refinement: the face looks the same in all frames, but for the light and the pose.

The landmarks' detector leans with the person: its points put a head some degrees off. Pictures do not. Points of the face's
surface (:mod:`avatar_models.tracking.skin`) have an albedo each, the clip one light, a frame one gain:

    I_n(u_nm) = g_n l(n_nm) a_m        l(n) = sum_k l_k Y_k(n), harmonics of degree 2 (Ramamoorthi and Hanrahan 2001)

with u the projection and n the normal of point m in frame n, I the blurred luminance. Residuals are taken where the points
are seen, so a step is Gauss-Newton with the picture's gradient, as in Lucas and Kanade's registration. Albedo and what the
detector does differently on this person are eliminated, not alternated with: a lean of all frames slides the albedo over the
surface, and alternating would hold it back.

First some frames with all that they share, then all frames with that held.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from avatar_models.heads.interface import Head
from avatar_models.light import harmonics
from avatar_models.tracking.arrow import step
from avatar_models.tracking.landmark_head import points_of
from avatar_models.tracking.problem import ROBUST_SCALE, Problem
from avatar_models.tracking.shared_constants import Rows, solve
from avatar_models.tracking.skin import Skin, View, skin_of, view_of
from avatar_models.tracking.state import State, axis_angle, rotation

Array = NDArray[np.float64]
Pictures = NDArray[np.uint8]  # (N, H, W, 3) RGB

LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)
BLURS = (0.03, 0.012)  # standard deviations over the distance between the eyes, coarse to fine
STEPS = 6  # at most, at each blur
ALL_STEPS = 3
SETTLED = np.radians(0.02)  # of the lean: a blur's steps end
ERRS_TOGETHER = 2.5  # neighbouring points err together, as landmarks do
HABIT_SIGMA = 0.05  # of what the detector does differently on a person, over the distance between the eyes
LEAST_SIGMA = 0.003  # of luminance
DAMPING = 1e-4
MIN_FRAMES = 8
LEAST_TURNING = np.radians(2.0)
LEAST_EXPLAINED = 0.5  # of what differs from point to point
LEAST_VISIBLE = 100  # points in a frame, on the mean
KEY_FRAMES = 48  # in which what all frames share is refined
TURNS = 4  # of albedo, light and gains in one explanation
NUM_LEAN = 6  # a turn and a shift of the head in its own frame, in all frames


@dataclass(frozen=True)
class Appearance:
    """How the face looks in a clip."""

    albedo: NDArray[np.float32]  # (M,)
    light: Array  # (9,)
    sigma: float  # of a residual of luminance


@dataclass(frozen=True)
class Measured:
    """The pictures at the points. N frames, M points."""

    luminance: NDArray[np.float32]  # (N, M)
    gradient: NDArray[np.float32]  # (N, M, 2) per pixel


class Refinement:
    """Frames of a clip, their blurred pictures, and the points on the face."""

    def __init__(self, skin: Skin, problem: Problem, pictures: Pictures, blur: float) -> None:
        self.skin, self.problem = skin, problem
        self.model = points_of(skin.head, skin.vertices)
        self.size = pictures.shape[2], pictures.shape[1]
        self.luminance = [
            cv2.GaussianBlur((picture @ LUMINANCE) / np.float32(255), (0, 0), blur * eyes)
            for picture, eyes in zip(pictures, problem.seen.eye_distance, strict=True)
        ]

    def view(self, state: State) -> View:
        return view_of(
            self.skin, state.identity, state.expression, axis_angle(state.R_jaw), state.both_eyes(), state.viewmats(),
            self.problem.seen.K(state.log_focal), self.size,
        )  # fmt: skip

    def points(self, state: State) -> Problem:
        """The points in place of landmarks, seen where they are projected: its Jacobian is that of the projection in pixels."""
        points = self.problem.of_points(self.model)
        return points.seeing(replace(points.seen, points=points.projected(state)))

    def measure(self, pixels: Array) -> Measured:
        """Luminance and its gradient at pixels (N, M, 2), by bilinear interpolation."""
        around = np.array([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]], np.float32) - 0.5  # pixel centres are at +0.5
        at = (pixels[:, None] + around[:, None]).astype(np.float32)  # (N, 5, M, 2)
        values = np.stack(
            [
                cv2.remap(image, where[..., 0], where[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
                for image, where in zip(self.luminance, at, strict=True)
            ]
        )
        gradient = np.stack([values[:, 1] - values[:, 2], values[:, 3] - values[:, 4]], -1) / 2
        return Measured(values[:, 0], gradient)


def refine(head: Head, problem: Problem, state: State, pictures: Pictures) -> tuple[Problem, State] | None:
    """The state with what the pictures (N, H, W, 3) say, and the problem with the detector's habits on this person taken out.

    None where pictures tell nothing: of a clip of fewer than MIN_FRAMES; of a head that hardly turns, whose lean albedo and
    habits can take up alike; and where albedo, light and gains do not explain them, as where a face is hidden or out of sight.
    """
    if len(pictures) < MIN_FRAMES or turning(state.R) < LEAST_TURNING:
        return None
    try:
        return _refined(skin_of(head), problem, state, pictures)
    except (Unexplained, np.linalg.LinAlgError):
        return None


class Unexplained(ValueError):
    """The pictures do not show the face that was fitted."""


def turning(R: Array) -> float:
    """How far a head turns, radians: the root mean square angle of rotations (N, 3, 3) to their mean."""
    U, _, Vt = np.linalg.svd(R.mean(0))
    mean = U @ np.diag([1.0, 1.0, np.linalg.det(U @ Vt)]) @ Vt
    return float(np.sqrt((axis_angle(mean.T @ R) ** 2).sum(1).mean()))


def _refined(skin: Skin, problem: Problem, state: State, pictures: Pictures) -> tuple[Problem, State]:
    keys = np.unique(np.linspace(0, len(pictures) - 1, KEY_FRAMES).round().astype(int))
    some, of_keys = state.frames(keys), problem.seeing(problem.seen.frames(keys))
    for blur in BLURS:
        refinement = Refinement(skin, of_keys, pictures[keys], blur)
        some, appearance = refine_shared(refinement, some)
    habit = habits(of_keys, some)
    seen = replace(problem.seen, points=problem.seen.points + habit * problem.seen.eye_distance[:, None, None])
    problem = problem.seeing(seen)
    state = _moved_as(state, some, keys)
    return problem, refine_frames(Refinement(skin, problem, pictures, BLURS[-1]), state, appearance)


def refine_shared(refinement: Refinement, state: State) -> tuple[State, Appearance]:
    """Pose, expression, identity, focal length and a lean of all frames, the albedo eliminated."""
    view = refinement.view(state)
    if view.visible.sum(1).mean() < LEAST_VISIBLE:
        raise Unexplained
    appearance, gain = None, np.ones(len(state.t))
    for _ in range(STEPS):
        points = refinement.points(state)
        measured = refinement.measure(points.seen.points)
        appearance, gain = explain(measured.luminance, view, appearance, gain)
        rows = [picture_rows(points, state, measured, view, appearance, gain), landmark_rows(refinement.problem, state)]
        value, precision = refinement.problem.shared_prior(state)
        lean = np.zeros(NUM_LEAN)
        shared_prior = np.concatenate([value, lean]), np.concatenate([precision, lean])
        frames, shared = solve(rows, refinement.problem.prior(state), shared_prior, DAMPING)
        state = refinement.problem.moved(_leaned(state, shared[-NUM_LEAN:]), frames, shared[:-NUM_LEAN])
        if np.linalg.norm(shared[-NUM_LEAN : -NUM_LEAN + 3]) < SETTLED:
            break
    assert appearance is not None
    if explained(measured.luminance, view, appearance, gain) < LEAST_EXPLAINED:
        raise Unexplained
    return state, appearance


def refine_frames(refinement: Refinement, state: State, appearance: Appearance) -> State:
    """Pose, expression, jaw and eyes of all frames, with how the face looks and what frames share as they are."""
    view = refinement.view(state)
    light = _shade(_harmonics(view.normals), appearance.light)
    for _ in range(ALL_STEPS):
        points = refinement.points(state)
        measured = refinement.measure(points.seen.points)
        gain = _gains(measured.luminance, light * appearance.albedo, view.visible)
        rows = picture_rows(points, state, measured, view, appearance, gain, shared=False)
        normal = refinement.problem.normal(state, shared=False)
        transposed = rows.frames.transpose(0, 2, 1)
        normal = replace(
            normal, A=normal.A + transposed @ rows.frames, a=normal.a + (transposed @ rows.residual[..., None])[..., 0]
        )
        state = refinement.problem.moved(state, *step(normal, DAMPING))
    return state


# -- how the face looks -----------------------------------------------------------------------------------------------


def explain(luminance: NDArray[np.float32], view: View, before: Appearance | None, gain: Array) -> tuple[Appearance, Array]:
    """Albedo, light and noise, and a gain for each frame, that explain the luminance (N, M): robust least squares in turns."""
    light = np.eye(9)[0] if before is None else before.light
    harmonics = _harmonics(view.normals)
    weight = (
        view.visible
        if before is None
        else view.visible * _robust(luminance - gain[:, None] * _shade(harmonics, light) * before.albedo, before.sigma)
    )
    for _ in range(TURNS):
        shade = gain[:, None] * _shade(harmonics, light)
        albedo = (weight * shade * luminance).sum(0) / np.maximum((weight * shade**2).sum(0), 1e-9)
        X = harmonics * (gain[:, None] * albedo)[..., None]
        XtX = np.einsum("nmi,nmj->ij", X * weight[..., None], X, optimize=True)
        light = np.linalg.solve(XtX + 1e-5 * np.trace(XtX) * np.eye(9), np.einsum("nmi,nm->i", X, weight * luminance))
        light = light / light[0]
        gain = _gains(luminance, _shade(harmonics, light) * albedo, weight)
        residual = luminance - gain[:, None] * _shade(harmonics, light) * albedo
        sigma = max(1.4826 * float(np.median(np.abs(residual)[view.visible > 0.5])), LEAST_SIGMA)
        weight = view.visible * _robust(residual, sigma)
    return Appearance(albedo.astype(np.float32), light, sigma), gain


def explained(luminance: NDArray[np.float32], view: View, appearance: Appearance, gain: Array) -> float:
    """Share of the variance from point to point within a frame that the appearance explains; at most 1."""
    shown = gain[:, None] * _shade(_harmonics(view.normals), appearance.light) * appearance.albedo
    mean = (view.visible * luminance).sum(1, keepdims=True) / np.maximum(view.visible.sum(1, keepdims=True), 1e-9)
    differs = float((view.visible * (luminance - mean) ** 2).sum())
    return 1.0 - float((view.visible * (luminance - shown) ** 2).sum()) / max(differs, 1e-9)


def _gains(luminance: NDArray[np.float32], shown: NDArray[np.floating], weight: NDArray[np.floating]) -> Array:
    """(N,) factors by which a frame is brighter than shown (N, M)."""
    return np.asarray((weight * shown * luminance).sum(1) / np.maximum((weight * shown**2).sum(1), 1e-9), np.float64)


def _robust(residual: NDArray[np.floating], sigma: float) -> NDArray[np.float32]:
    return np.asarray(1 / (1 + (residual / (ROBUST_SCALE * sigma)) ** 2) ** 2, np.float32)


def _harmonics(n: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(harmonics(torch.from_numpy(n)).numpy())


def _shade(harmonics: NDArray[np.float32], light: Array) -> NDArray[np.float32]:
    return np.asarray(np.maximum(harmonics @ light, 0.1), np.float32)


# -- rows of the least-squares problem --------------------------------------------------------------------------------


def picture_rows(
    points: Problem, state: State, measured: Measured, view: View, appearance: Appearance, gain: Array, *, shared: bool = True
) -> Rows:
    """A row for each point: grad I^T du/dx, over the noise and times the root of its robust weight."""
    shade = gain[:, None] * _shade(_harmonics(view.normals), appearance.light)
    residual = measured.luminance - shade * appearance.albedo
    weight = np.sqrt(view.visible * _robust(residual, appearance.sigma)) / (appearance.sigma * ERRS_TOGETHER)
    slope = (weight[..., None] * measured.gradient).astype(np.float32)
    N, M = residual.shape
    F, S = points.num_frame, points.num_shared
    frames, of_shared = np.empty((N, M, F), np.float32), np.empty((N, M, S + NUM_LEAN if shared else 0), np.float32)
    for part, J in points.jacobians(state, shared=shared):
        row = slope[part, :, :1] * J[:, :, 0] + slope[part, :, 1:] * J[:, :, 1]
        frames[part] = row[..., :F]
        if shared:
            leans = _lean_columns(row[..., :6], state.R[part])
            of_shared[part] = np.concatenate([row[..., F:-1], leans], -1)
    return Rows(frames, of_shared, (weight * residual).astype(np.float32), (weight * shade).astype(np.float32), 0.0)


def landmark_rows(problem: Problem, state: State) -> Rows:
    """Two rows for each landmark; its constant is what the detector does differently on this person."""
    J, r = problem.weighted_jacobian(state, problem.seen, shared=True)
    N, F = len(J), problem.num_frame
    shared = np.concatenate([J[..., F:], _lean_columns(J[..., :6], state.R)], -1)
    own = np.repeat(np.sqrt(problem.robust_weights(state))[..., None], 2, 2).astype(np.float32)
    return Rows(
        np.ascontiguousarray(J[..., :F]).reshape(N, -1, F), shared.reshape(N, -1, shared.shape[-1]), r.reshape(N, -1),
        own.reshape(N, -1), 1 / HABIT_SIGMA**2,
    )  # fmt: skip


def habits(problem: Problem, state: State) -> Array:
    """What the detector does differently on this person, (P, 2) over the distance between the eyes, projected less detected."""
    weight = problem.robust_weights(state)[..., None]
    return np.asarray((weight * problem.residuals(state)).sum(0) / (weight.sum(0) + 1 / HABIT_SIGMA**2))


def _lean_columns(pose: NDArray[np.float32], R: Array) -> NDArray[np.float32]:
    """Columns (N, ..., 6) of a turn and a shift in the head's own frame from those in the camera's (N, ..., 6)."""
    of_frame = R.astype(np.float32).reshape(len(R), *[1] * (pose.ndim - 3), 3, 3)
    return np.concatenate([pose[..., :3] @ of_frame, pose[..., 3:6] @ of_frame], -1)


def _leaned(state: State, lean: Array) -> State:
    return replace(state, R=state.R @ rotation(lean[None, :3])[0], t=state.t + state.R @ lean[3:])


def _moved_as(state: State, some: State, keys: NDArray[np.int64]) -> State:
    """All frames with what some share, posed as before but for the turn, shift and change that the nearest of some made."""
    frames = np.arange(len(state.t))

    def between(values: Array) -> Array:
        return np.stack([np.interp(frames, keys, column) for column in values.T], 1)

    before = state.frames(keys)
    return replace(
        state,
        identity=some.identity,
        log_focal=some.log_focal,
        R=state.R @ rotation(between(axis_angle(before.R.transpose(0, 2, 1) @ some.R))),
        t=state.t + between(some.t - before.t),
        expression=state.expression + between(some.expression - before.expression),
        R_jaw=rotation(axis_angle(state.R_jaw) + between(axis_angle(some.R_jaw) - axis_angle(before.R_jaw))),
        eyes=state.eyes + between(some.eyes - before.eyes),
    )
