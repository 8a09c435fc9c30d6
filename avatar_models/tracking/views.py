"""The least-squares problem of a head that several known cameras film at the same time.

A view's problem is that of one camera, with the head's pose in that camera: viewmat times the pose in the world. A turn omega
and a shift of the world's pose are V omega and V times the shift in the camera, with V the view's rotation, so a view's
columns of the pose are turned and all else is a sum over views. A view may miss frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from avatar_models.tracking.arrow import Normal
from avatar_models.tracking.landmark_head import LandmarkHead
from avatar_models.tracking.problem import Problem
from avatar_models.tracking.quality import LEFT_EYE_CORNERS, RIGHT_EYE_CORNERS
from avatar_models.tracking.state import Seen, State

Array = NDArray[np.float64]
RAYS_FIRST = 1e-3
"""Weight of a head's distance as one view alone tells it, against where the views' rays meet."""


@dataclass(frozen=True)
class SeenView:
    """What one camera saw: M of the frames."""

    seen: Seen
    frames: NDArray[np.int64]  # (M,) rising
    viewmat: Array  # (4, 4) world to camera

    def some(self, frames: NDArray[np.int64]) -> SeenView:
        """Of some frames (rising), numbered by their places in them."""
        rows = np.flatnonzero(np.isin(self.frames, frames))
        return SeenView(self.seen.frames(rows), np.searchsorted(frames, self.frames[rows]), self.viewmat)

    def state(self, state: State) -> State:
        """A state of the world as this camera sees it."""
        mine = state.frames(self.frames)
        V = self.viewmat[:3, :3]
        return replace(mine, R=V @ mine.R, t=mine.t @ V.T + self.viewmat[:3, 3])


class ViewsProblem:
    """The cost of a state whose pose is the head's in the world, and its normal equations; see `Problem` for one camera's."""

    def __init__(self, own: Problem, views: Sequence[tuple[SeenView, Problem]]) -> None:
        """`own` has the priors and the smoothness of all frames, and each view's problem its landmarks."""
        self.own, self.views = own, [(view, problem) for view, problem in views if len(view.frames)]
        self.model, self.num_frames, self.smoothness = own.model, own.num_frames, own.smoothness

    def cost(self, state: State) -> float:
        return self.own.prior_cost(state) + sum(problem.landmarks_cost(view.state(state)) for view, problem in self.views)

    def normal(self, state: State, *, shared: bool) -> Normal:
        N, F, S = self.num_frames, self.own.num_frame, self.own.num_shared if shared else 0
        A, B, C, a, c = np.zeros((N, F, F)), np.zeros((N, F, S)), np.zeros((S, S)), np.zeros((N, F)), np.zeros(S)
        for view, problem in self.views:
            part, T = problem.landmarks_normal(view.state(state), shared=shared), self._to_camera(view)
            A[view.frames] += T.T @ part.A @ T
            B[view.frames] += T.T @ part.B
            a[view.frames] += part.a @ T
            C += part.C
            c += part.c
        return self.own.with_priors(Normal(A, B, C, a, c), state)

    def refreshed(self, normal: Normal, state: State) -> Normal:
        a = np.zeros((self.num_frames, self.own.num_frame))
        for view, problem in self.views:
            a[view.frames] += problem.gradient(view.state(state)) @ self._to_camera(view)
        return self.own.with_priors(replace(normal, a=a), state)

    def moved(self, state: State, frames: Array, shared: Array) -> State:
        return self.own.moved(state, frames, shared)

    def residuals(self, state: State) -> Array:
        """(frames of all views, P, 2)."""
        return np.concatenate([problem.residuals(view.state(state)) for view, problem in self.views])

    def posed(self, state: State) -> Array:
        """Landmarks (N, P, 3) in the head's frame, without slides but those of the last view that saw the frame."""
        posed = np.empty((self.num_frames, *self.model.template.shape))
        for view, problem in self.views:
            posed[view.frames] = problem.posed(view.state(state))
        return posed

    def poses(self, X: Array, log_focal: float) -> tuple[Array, Array]:
        """R (N, 3, 3) and t (N, 3) of points X (N, P, 3): the views' mean turn, and where the rays to the points' middle meet.

        Frontal views count more: of a profile the detector sees half.
        """
        turn, M, b = np.zeros((self.num_frames, 3, 3)), np.zeros((self.num_frames, 3, 3)), np.zeros((self.num_frames, 3))
        middle = X.mean(1)
        for view, problem in self.views:
            V, at = view.viewmat[:3, :3], view.frames
            R, t = problem.poses(X[at], log_focal)
            weight = R[:, 2, 2, None, None] ** 4
            turn[at] += weight * (V.T @ R)
            x = (R @ middle[at, :, None])[..., 0] + t
            ray = (x / np.linalg.norm(x, axis=1, keepdims=True)) @ V
            across = np.eye(3) - ray[:, :, None] * ray[:, None]
            camera, alone = -V.T @ view.viewmat[:3, 3], (x - view.viewmat[:3, 3]) @ V
            M[at] += weight * (across + RAYS_FIRST * np.eye(3))
            b[at] += weight[:, 0] * (across @ camera + RAYS_FIRST * alone)
        U, _, Vt = np.linalg.svd(turn)
        U[..., 2] *= np.linalg.det(U @ Vt)[:, None]
        R = U @ Vt
        return R, np.linalg.solve(M, b[..., None])[..., 0] - (R @ middle[..., None])[..., 0]

    def _to_camera(self, view: SeenView) -> Array:
        """(F, F): a step of the world's pose as a step of the camera's."""
        T = np.eye(self.own.num_frame)
        T[:3, :3] = T[3:6, 3:6] = view.viewmat[:3, :3]
        return T


def with_eye_distance(view: SeenView, model: LandmarkHead, problem: Problem) -> SeenView:
    """With the distance between the eyes in pixels as a frontal view at the head's distance would show it.

    In a profile's picture they lie over each other.
    """
    eyes = model.template[list(RIGHT_EYE_CORNERS)].mean(0) - model.template[list(LEFT_EYE_CORNERS)].mean(0)
    X = np.broadcast_to(model.template, (len(view.frames), *model.template.shape))
    R, t = problem.poses(X, 0.0)
    depth = (R @ model.template.mean(0))[:, 2] + t[:, 2]
    distance = view.seen.K(0.0)[:, 0, 0] * float(np.linalg.norm(eyes)) / depth
    return replace(view, seen=replace(view.seen, eye_distance=distance))
