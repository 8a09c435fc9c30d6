"""The least-squares problem of a head fit: what is unknown, what it costs, and how the cost changes.

A frame has F unknowns of its own: rotation, translation, expression, jaw, eyes. All frames share S: identity and the
logarithm of the focal length. N frames, P = 478 landmarks, I identity and E expression coefficients. Lengths in metres,
pixels are those of the stored crop, float64 but for the Jacobian. Residuals are over the distance between the eyes.

The crop is a window that moves over the source picture, so each frame has its own K: the source camera's focal length over
the crop's scale, its principal point (the source's centre) seen from the crop.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avatar_models.heads.skinning import JAW, LEFT_EYE, RIGHT_EYE
from avatar_models.kernels import fitting as kernels
from avatar_models.tracking.arrow import Normal
from avatar_models.tracking.landmark_head import LandmarkHead, view_terms
from avatar_models.tracking.pose import poses
from avatar_models.tracking.quality import FACE_OVAL, IRISES, LIPS
from avatar_models.tracking.smoothness import NUM_EYES, NUM_JAW, NUM_POSE, Smoothness
from avatar_models.tracking.state import Seen, State, axis_angle, rotation

Array = NDArray[np.float64]

ROBUST_SCALE = 3.0
"""Residuals beyond this many sigmas lose their weight (Geman-McClure)."""
OVAL_WEIGHT = 0.15  # the detector's face contour slides along the cheek as the head turns
IRIS_WEIGHT = 2.0
LIPS_WEIGHT = 6.0  # few points say how far a mouth is open
FOCAL_SIGMA = 0.4  # of its logarithm
EXPRESSION_SIGMA = 0.6  # of coefficients that go from 0 to 1
NEGATIVE_SIGMA = 0.05  # below 0
JAW_SIGMA = np.array([0.3, 0.03, 0.03])  # radians: a jaw opens; it hardly turns or tilts
EYE_SIGMA = 0.35
FRAMES_A_VIEW = 10.0
"""Landmarks err together for as many frames as a view lasts: so many frames count as one against what they share."""
_POSE_ROWS = 11  # pose and turns
CHUNK = 4  # frames whose Jacobian is in the processor's cache at a time


class Problem:
    """The cost of a state, and its normal equations. `sigma` is a landmark's standard deviation over the eyes' distance."""

    def __init__(
        self, model: LandmarkHead, seen: Seen, *, sigma: float, first_log_focal: float, focal_sigma: float, one_sided: bool,
        smoothness: Smoothness | None, amount: float = 1.0, follows: NDArray[np.bool_] | None = None,
    ) -> None:  # fmt: skip
        """`amount` is the weight of smoothness, `follows` (N - 2,) which frames and neighbours are a stretch without a gap."""
        self.model, self.seen, self.sigma = model, seen, sigma
        self.first_log_focal, self.focal_sigma, self.one_sided = first_log_focal, focal_sigma, one_sided
        self.smoothness = smoothness if len(seen.points) >= 3 else None
        if self.smoothness is not None:
            precision, self.jump = self.smoothness.of_unknowns(model)
            self.stiffness = amount * precision * (np.ones((len(seen.points) - 2, 1)) if follows is None else follows[:, None])
        self.weights = landmark_weights(model)
        self.num_expression = len(model.expression)
        self.num_frame = NUM_POSE + self.num_expression + NUM_JAW + NUM_EYES
        self.num_shared = len(model.identity) + 1
        self.jaw_at = NUM_POSE + self.num_expression
        self.expression_columns, self.identity_columns = columns_of(model)

    def seeing(self, seen: Seen) -> Problem:
        """The same problem for other detections, or for some of the frames: without smoothness where they are fewer."""
        other = copy.copy(self)
        other.seen = seen
        if len(seen.points) != len(self.seen.points):
            other.smoothness = None
        return other

    def of_points(self, model: LandmarkHead) -> Problem:
        """The same frames with other points of the head in the landmarks' place, all of one weight, residuals in pixels."""
        other = copy.copy(self)
        other.model, other.weights, other.sigma = model, np.ones(len(model.template)), 1.0
        other.expression_columns, other.identity_columns = columns_of(model)
        ones = np.ones(self.num_frames)
        other.seen = replace(self.seen, points=np.zeros((self.num_frames, len(model.template), 2)), eye_distance=ones)
        return other

    @property
    def num_frames(self) -> int:
        return len(self.seen.points)

    def poses(self, X: Array, log_focal: float) -> tuple[Array, Array]:
        """R (N, 3, 3) and t (N, 3) of points X (N, P, 3) of the head, each frame by itself."""
        return poses(X, self.seen.points, self.seen.K(log_focal), self.weights)

    # -- the model ----------------------------------------------------------------------------------------------------

    def shape(self, state: State) -> tuple[Array, Array]:
        """Points before posing (N, P, 3) and joints (N or 1, 5, 3)."""
        model = self.model
        s = model.template + np.tensordot(state.identity, model.identity, 1) + _blend(state.expression, model.expression)
        joints = (model.joints + np.tensordot(state.identity, model.joint_identity, 1))[None]
        if model.joint_expression is not None:
            joints = joints + np.tensordot(state.expression, model.joint_expression, 1)
        if model.correctives is not None:
            turned = np.stack([R - np.eye(3) for _, R in self.turns(state)], 1)  # (N, 3, 3, 3)
            s = s + _blend(turned.reshape(-1, 27), model.correctives)
        return s, joints

    def turns(self, state: State) -> list[tuple[int, Array]]:
        """The joints that turn, with their rotations (N, 3, 3)."""
        R_eyes = rotation(np.concatenate([state.eyes, np.zeros((len(state.eyes), 1))], 1))
        return [(JAW, state.R_jaw), (LEFT_EYE, R_eyes), (RIGHT_EYE, R_eyes)]

    def placed(self, state: State, seen: Seen) -> tuple[Array, ...]:
        """What the kernels need to place the head's landmarks in the picture, see `kernels.project_points`.

        p = sum_j w_j (R_j (s - J_j) + J_j) + slide in the head's frame.
        """
        s, joints = self.shape(state)
        turns, K = self.turns(state), seen.K(state.log_focal)
        which = [joint for joint, _ in turns]
        pivots = np.broadcast_to(joints[:, which], (len(s), 3, 3)).copy()
        turned = np.stack([R for _, R in turns], 1)  # (N, 3, 3, 3)
        slides = _blend(view_terms(state.R, state.t), self.model.slides)
        focal, centre = np.ascontiguousarray(K[:, [0, 1], [0, 1]]), np.ascontiguousarray(K[:, :2, 2])
        return s, slides, state.R, state.t, pivots, turned, self.model.weights[:, which].copy(), focal, centre

    def posed(self, state: State) -> Array:
        """Landmarks (N, P, 3) in the head's frame."""
        s, slides, R, _, pivots, turned, weights, _, _ = self.placed(state, self.seen)
        posed = np.empty_like(s)
        kernels.pose_points(s, slides, np.broadcast_to(np.eye(3), R.shape), pivots, turned, weights, posed)
        return posed

    def projected(self, state: State) -> Array:
        """(N, P, 2) crop pixels."""
        pixels = np.empty(self.seen.points.shape)
        kernels.project_points(*self.placed(state, self.seen), pixels)
        return pixels

    def residuals(self, state: State) -> Array:
        """(projected - observed) over the distance between the eyes, (N, P, 2)."""
        return (self.projected(state) - self.seen.points) / self.seen.eye_distance[:, None, None]

    # -- the cost -----------------------------------------------------------------------------------------------------

    def cost(self, state: State) -> float:
        return self.landmarks_cost(state) + self.prior_cost(state)

    def landmarks_cost(self, state: State) -> float:
        seen = self.seen
        return float(
            kernels.robust_cost(
                *self.placed(state, seen), seen.points, seen.eye_distance, self.weights, self.sigma, ROBUST_SCALE
            )
        )

    def prior_cost(self, state: State) -> float:
        """Of priors and smoothness."""
        value, precision = self.prior(state)
        shared, shared_precision = self.shared_prior(state)
        total = float((precision * value**2).sum() + (shared_precision * shared**2).sum())
        if self.smoothness is not None:
            squared = self.second_differences(state) ** 2
            total += float((self.stiffness * squared / (1 + squared / self.jump**2)).sum())
        return total

    def robust_weights(self, state: State) -> Array:
        """(N, P) of the squared residuals as they are now, over sigma^2."""
        squared = (self.residuals(state) ** 2).sum(-1) / self.sigma**2
        return np.asarray(self.weights / (1 + squared / ROBUST_SCALE**2) ** 2 / self.sigma**2)

    def inliers(self, state: State) -> Array:
        """Mean weight (N,) of a frame's landmarks in [0, 1]: low where a hand or hair hides the face."""
        return np.asarray(self.robust_weights(state).sum(1) * self.sigma**2 / self.weights.sum())

    def prior(self, state: State) -> tuple[Array, Array]:
        """(value, precision), each (N, F), of what a frame's unknowns are drawn to zero by."""
        N, E = state.expression.shape
        value, precision = np.zeros((N, self.num_frame)), np.zeros((N, self.num_frame))
        expression, jaw = slice(NUM_POSE, NUM_POSE + E), slice(self.jaw_at, self.jaw_at + NUM_JAW)
        value[:, expression] = state.expression
        low = NEGATIVE_SIGMA if self.one_sided else 1.0
        precision[:, expression] = 1 / np.where(state.expression < 0, low, EXPRESSION_SIGMA if self.one_sided else 1.0) ** 2
        value[:, jaw], precision[:, jaw] = axis_angle(state.R_jaw), 1 / JAW_SIGMA**2
        value[:, -NUM_EYES:], precision[:, -NUM_EYES:] = state.eyes, 1 / EYE_SIGMA**2
        return value, precision

    def shared_prior(self, state: State) -> tuple[Array, Array]:
        """(value, precision), each (S,)."""
        value = np.append(state.identity, state.log_focal - self.first_log_focal)
        precision = np.append(np.ones(len(state.identity)), 1 / self.focal_sigma**2)
        return value, precision * max(1.0, len(state.t) / FRAMES_A_VIEW)

    def second_differences(self, state: State) -> Array:
        """x_{n-1} - 2 x_n + x_{n+1} of the unknowns, (N - 2, F); turns as the middle frame sees them."""
        second = np.empty((len(state.t) - 2, self.num_frame))
        second[:, :3] = _second_turn(state.R)
        second[:, 3:6] = np.diff(state.t, 2, axis=0)
        second[:, NUM_POSE : self.jaw_at] = np.diff(state.expression, 2, axis=0)
        second[:, self.jaw_at : self.jaw_at + NUM_JAW] = _second_turn(state.R_jaw)
        second[:, -NUM_EYES:] = np.diff(state.eyes, 2, axis=0)
        return second

    # -- its derivative -----------------------------------------------------------------------------------------------

    def normal(self, state: State, *, shared: bool) -> Normal:
        """The normal equations J^T W J and J^T W r of a Gauss-Newton step, robust weights as they are now."""
        return self.with_priors(self.landmarks_normal(state, shared=shared), state)

    def refreshed(self, normal: Normal, state: State) -> Normal:
        """The frames' normal equations for a state near theirs: the gradient is exact, the landmarks' curvature is kept."""
        return self.with_priors(replace(normal, a=self.gradient(state)), state)

    def landmarks_normal(self, state: State, *, shared: bool) -> Normal:
        F = self.num_frame
        H = self.products(state, shared=shared)
        H, g = H[:, :-1, :-1], H[:, :-1, -1].astype(np.float64)
        A, B, a = H[:, :F, :F].astype(np.float64), H[:, :F, F:].astype(np.float64), g[:, :F].copy()
        return Normal(A, B, H[:, F:, F:].sum(0, dtype=np.float64), a, g[:, F:].sum(0))

    def with_priors(self, normal: Normal, state: State) -> Normal:
        """The landmarks' normal equations with those of priors and smoothness."""
        value, held_by = self.prior(state)
        C, c = normal.C, normal.c
        if len(c):
            shared, precision = self.shared_prior(state)
            C, c = C + np.diag(precision), c + precision * shared
        coupling, second = self.coupling(state)
        return Normal(normal.A, normal.B, C, normal.a + held_by * value, c, coupling, second, held_by)

    def coupling(self, state: State) -> tuple[Array | None, Array | None]:
        """Robustly weighted precisions (N - 2, F) of the second differences, and the differences themselves."""
        if self.smoothness is None:
            return None, None
        second = self.second_differences(state)
        return self.stiffness / (1 + (second / self.jump) ** 2) ** 2, second

    def gradient(self, state: State) -> Array:
        """J^T r of the landmarks by the frames' unknowns, (N, F), without the columns of bases."""
        N, P = self.seen.points.shape[:2]
        placed, moved = self.placed(state, self.seen), self._moved_by_correctives(state)
        pose, by_shape, by_posed = np.empty((N, _POSE_ROWS)), np.empty((N, P, 3), np.float32), np.empty((N, P, 3), np.float32)
        for start in range(0, N, 4 * CHUNK):
            part = slice(start, start + 4 * CHUNK)
            J, rows, shape_rows, _ = self._pose_rows(placed, moved, self.seen, part, _POSE_ROWS + 1, NUM_POSE)
            flat = J.reshape(len(J), -1, _POSE_ROWS + 1)
            pose[part] = (flat.transpose(0, 2, 1) @ flat)[:, :-1, -1]
            kernels.pull_back(shape_rows, J[..., -1], by_shape[part])
            kernels.pull_back(rows, J[..., -1], by_posed[part])
        by_expression = by_shape.reshape(N, -1) @ self.expression_columns.reshape(3 * P, -1)
        if self.model.joint_expression is not None:
            by_joints = placed[6].T.astype(np.float32) @ by_posed  # (N, 3 joints, 3)
            by_expression += np.einsum("njc,njck->nk", by_joints, _moved_by_joints(placed[5], self.model.joint_expression))
        return np.concatenate([pose[:, :NUM_POSE], by_expression, pose[:, NUM_POSE:]], 1)

    def products(self, state: State, *, shared: bool) -> NDArray[np.float32]:
        """J'^T J' of each frame with J' = (J, r): (N, F + 1, F + 1), or (N, F + S + 1, F + S + 1)."""
        N, columns = len(state.t), self.num_frame + (self.num_shared if shared else 0) + 1
        H = np.empty((N, columns, columns), np.float32)
        for part, J in self.jacobians(state, shared=shared):
            flat = J.reshape(len(J), -1, columns)
            np.matmul(flat.transpose(0, 2, 1), flat, out=H[part])
        return H

    def jacobians(self, state: State, *, shared: bool) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """The weighted Jacobian of some frames after another, with the residuals as its last column."""
        placed, moved = self.placed(state, self.seen), self._moved_by_correctives(state)
        for start in range(0, len(state.t), CHUNK):
            part = slice(start, start + CHUNK)
            yield part, self._rows(placed, moved, self.seen, part, shared=shared)

    def weighted_jacobian(self, state: State, seen: Seen, *, shared: bool) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """d residual / d (a frame's unknowns, shared ones), (N, P, 2, F or F + S), and residuals (N, P, 2), float32.

        Both are over sigma and times the root of the points' robust weights.
        Slides are taken as they are: they change little with a step.
        """
        J = self._rows(self.placed(state, seen), self._moved_by_correctives(state), seen, slice(None), shared=shared)
        return J[..., :-1], J[..., -1]

    def _rows(
        self, placed: tuple[Array, ...], moved: NDArray[np.float32], seen: Seen, part: slice, *, shared: bool
    ) -> NDArray[np.float32]:
        """The Jacobian of some frames, and the residuals as its last column."""
        F, turned, weights = self.num_frame, placed[5][part], placed[6]
        columns = F + (self.num_shared if shared else 0) + 1
        J, rows, shape_rows, by_focal = self._pose_rows(placed, moved, seen, part, columns, self.jaw_at)
        kernels.fill_basis_columns(J, NUM_POSE, shape_rows, self.expression_columns)
        if self.model.joint_expression is not None:
            kernels.add_joint_columns(J, NUM_POSE, rows, weights, _moved_by_joints(turned, self.model.joint_expression))
        if shared:
            kernels.fill_basis_columns(J, F, shape_rows, self.identity_columns)
            kernels.add_joint_columns(J, F, rows, weights, _moved_by_joints(turned, self.model.joint_identity))
            J[..., -2] = by_focal
        return J

    def _pose_rows(
        self, placed: tuple[Array, ...], moved: NDArray[np.float32], seen: Seen, part: slice, columns: int, turns_at: int
    ) -> tuple[NDArray[np.float32], ...]:
        """Jacobians with so many columns, of which pose, turns and residuals are filled, and what the other columns need."""
        s, slides, R, t, pivots, turned, weights, focal, centre = placed
        s, slides, R, t, pivots, turned, focal, centre = (x[part] for x in (s, slides, R, t, pivots, turned, focal, centre))
        J, rows, shape_rows, by_focal = (np.empty((*s.shape[:2], 2, *k), np.float32) for k in ((columns,), (3,), (3,), ()))
        kernels.fill_pose_columns(
            s, slides, R, t, pivots, turned, weights, focal, centre, moved[part], seen.points[part], seen.eye_distance[part],
            self.weights, self.sigma, ROBUST_SCALE, turns_at, J, rows, shape_rows, by_focal,
        )  # fmt: skip
        return J, rows, shape_rows, by_focal

    def _moved_by_correctives(self, state: State) -> NDArray[np.float32]:
        """What correctives add to the shape for a turn of the jaw about x, y, z and of both eyes about x, y: (N, 5, P, 3).

        The eyes' angles are small, so turning about a fixed axis and adding to the axis-angle are the same to first order.
        """
        if self.model.correctives is None:
            return np.empty((0, kernels.NUM_TURNS, 1, 3), np.float32)
        turned = np.stack([R for _, R in self.turns(state)], 1)
        by_turn = np.zeros((len(turned), kernels.NUM_TURNS, 3, 9))
        for axis in range(NUM_JAW):
            by_turn[:, axis, 0] = (_SKEWS[axis] @ turned[:, 0]).reshape(-1, 9)
        for axis in range(NUM_EYES):
            for eye in (1, 2):
                by_turn[:, NUM_JAW + axis, eye] = (_SKEWS[axis] @ turned[:, eye]).reshape(-1, 9)
        moved = _blend(by_turn.reshape(-1, 27).astype(np.float32), self.model.correctives.astype(np.float32))
        return moved.reshape(len(turned), kernels.NUM_TURNS, *moved.shape[1:])

    @staticmethod
    def moved(state: State, frames: Array, shared: Array) -> State:
        """The state after a step of frames (N, F) and shared (S,) or (0,); rotations move by left multiplication."""
        return State(
            state.identity + shared[:-1] if len(shared) else state.identity,
            state.log_focal + float(shared[-1]) if len(shared) else state.log_focal,
            rotation(frames[:, :3]) @ state.R,
            state.t + frames[:, 3:6],
            state.expression + frames[:, NUM_POSE : -NUM_JAW - NUM_EYES],
            rotation(frames[:, -NUM_JAW - NUM_EYES : -NUM_EYES]) @ state.R_jaw,
            state.eyes + frames[:, -NUM_EYES:],
        )


_TURNING = (JAW, LEFT_EYE, RIGHT_EYE)
_SKEWS = np.array([[[0, 0, 0], [0, 0, -1], [0, 1, 0]], [[0, 0, 1], [0, 0, 0], [-1, 0, 0]], [[0, -1, 0], [1, 0, 0], [0, 0, 0]]])


def _moved_by_joints(turned: Array, basis: Array) -> NDArray[np.float32]:
    """What a basis of joints (K, 5, 3) moves what turns with them by: (1 - R_j) dJ_j, (N, 3, 3, K)."""
    return np.ascontiguousarray((np.eye(3) - turned) @ basis[:, _TURNING].transpose(1, 2, 0), np.float32)


def landmark_weights(model: LandmarkHead) -> Array:
    """(478,) how much a landmark counts."""
    weights = model.trust.copy()
    weights[FACE_OVAL] *= OVAL_WEIGHT
    weights[IRISES] *= IRIS_WEIGHT
    weights[LIPS] *= LIPS_WEIGHT
    return weights


def columns_of(model: LandmarkHead) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Bases as (P, 3, E) and (P, 3, I): products with them give the Jacobian's columns."""
    bases = (model.expression, model.identity)
    expression, identity = (np.ascontiguousarray(basis.transpose(1, 2, 0), np.float32) for basis in bases)
    return expression, identity


def _second_turn(R: Array) -> Array:
    """log(R_{n-1} R_n^T) + log(R_{n+1} R_n^T), (N - 2, 3)."""
    back = R[1:-1].transpose(0, 2, 1)
    return axis_angle(R[:-2] @ back) + axis_angle(R[2:] @ back)


def _blend(coefficients: NDArray[Any], basis: NDArray[Any]) -> NDArray[Any]:
    """sum_k coefficients (N, K) basis (K, P, 3) -> (N, P, 3)."""
    return (coefficients @ basis.reshape(len(basis), -1)).reshape(len(coefficients), *basis.shape[1:])
