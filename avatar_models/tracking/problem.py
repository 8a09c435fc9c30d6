"""The least-squares problem of a head fit: what is unknown, what it costs, and how the cost changes.

A frame has F unknowns of its own: rotation, translation, expression, jaw, eyes. All frames share S: identity and the
logarithm of the focal length. N frames, P = 478 landmarks, I identity and E expression coefficients. Lengths in metres,
pixels are those of the stored crop, float64 but for the Jacobian. Residuals are over the distance between the eyes.

The crop is a window that moves over the source picture, so each frame has its own K: the source camera's focal length over
the crop's scale, its principal point (the source's centre) seen from the crop.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from avatar_models.heads.skinning import JAW, LEFT_EYE, RIGHT_EYE
from avatar_models.kernels import fitting as kernels
from avatar_models.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from avatar_models.tracking.arrow import Normal
from avatar_models.tracking.landmark_head import LandmarkHead, view_terms
from avatar_models.tracking.quality import FACE_OVAL, IRISES, LIPS, inter_ocular

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
CHUNK = 16  # frames whose Jacobian is in the processor's cache at a time
NUM_POSE = 6
NUM_JAW = 3
NUM_EYES = 2  # both eyes turn together: about x, about y


@dataclass(frozen=True)
class Smoothness:
    """Standard deviations of the second difference from frame to frame; faster changes lose their weight, not their size."""

    rotation: float = 0.0015  # radians
    translation: float = 0.0002  # metres
    expression: float = 0.05
    blink: float = 0.15
    jaw: float = 0.02  # radians
    eyes: float = 0.03  # radians


@dataclass(frozen=True)
class State:
    """Values of all unknowns."""

    identity: Array  # (I,)
    log_focal: float  # of the focal length in source pixels
    R: Array  # (N, 3, 3) head's frame to camera
    t: Array  # (N, 3)
    expression: Array  # (N, E)
    R_jaw: Array  # (N, 3, 3)
    eyes: Array  # (N, 2)

    def frames(self, which: slice | NDArray[np.int64]) -> State:
        return replace(
            self, R=self.R[which], t=self.t[which], expression=self.expression[which], R_jaw=self.R_jaw[which],
            eyes=self.eyes[which],
        )  # fmt: skip


@dataclass(frozen=True)
class Seen:
    """What was observed of N frames."""

    points: Array  # (N, P, 2) crop pixels
    crop: Array  # (N, 3) x0, y0, scale of the stored crop in the source picture
    source_size: tuple[int, int]  # width, height in pixels
    eye_distance: Array  # (N,) pixels

    def frames(self, which: slice | NDArray[np.int64]) -> Seen:
        return Seen(self.points[which], self.crop[which], self.source_size, self.eye_distance[which])

    def K(self, log_focal: float) -> Array:
        """(N, 3, 3) in crop pixels."""
        x0, y0, scale = self.crop.T
        K = np.zeros((len(self.crop), 3, 3))
        K[:, 0, 0] = K[:, 1, 1] = np.exp(log_focal) / scale
        K[:, 0, 2] = (self.source_size[0] / 2 - x0) / scale
        K[:, 1, 2] = (self.source_size[1] / 2 - y0) / scale
        K[:, 2, 2] = 1.0
        return K


def seen_of(points: NDArray[np.floating], crop: NDArray[np.floating], source_size: tuple[int, int]) -> Seen:
    observed = np.asarray(points[..., :2], np.float64)
    return Seen(observed, np.asarray(crop, np.float64), source_size, inter_ocular(observed))


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
        self.amount, self.follows = amount, follows
        self.weights = landmark_weights(model)
        self.num_expression = len(model.expression)
        self.num_frame = NUM_POSE + self.num_expression + NUM_JAW + NUM_EYES
        self.num_shared = len(model.identity) + 1
        self.jaw_at = NUM_POSE + self.num_expression
        self.expression_columns, self.identity_columns = columns_of(model)

    def of(self, model: LandmarkHead, seen: Seen, weights: Array) -> Problem:
        """The same problem for other points of the head, or other frames; without smoothness where the frames differ."""
        other = copy.copy(self)
        other.model, other.seen, other.weights = model, seen, weights
        if len(seen.points) != len(self.seen.points):
            other.smoothness = other.follows = None
        if model is not self.model:
            other.sigma = 1.0
            other.expression_columns, other.identity_columns = columns_of(model)
        return other

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

    def posed(self, state: State, s: Array, joints: Array) -> Array:
        """Landmarks (N, P, 3) in the head's frame: sum_j w_j (R_j (s - J_j) + J_j), and the detector's slide."""
        p = s + _blend(view_terms(state.R, state.t), self.model.slides)
        for joint, R in self.turns(state):
            touched = np.flatnonzero(self.model.weights[:, joint])
            arm = s[:, touched] - joints[:, joint, None]
            p[:, touched] += self.model.weights[touched, joint, None] * (arm @ R.transpose(0, 2, 1) - arm)
        return p

    def projected(self, state: State) -> Array:
        """(N, P, 2) crop pixels."""
        x = self.posed(state, *self.shape(state)) @ state.R.transpose(0, 2, 1) + state.t[:, None]
        return _pixels(x, self.seen.K(state.log_focal))

    def residuals(self, state: State) -> Array:
        """(projected - observed) over the distance between the eyes, (N, P, 2)."""
        return (self.projected(state) - self.seen.points) / self.seen.eye_distance[:, None, None]

    # -- the cost -----------------------------------------------------------------------------------------------------

    def cost(self, state: State) -> float:
        squared = (self.residuals(state) ** 2).sum(-1) / self.sigma**2
        total = float((self.weights * squared / (1 + squared / ROBUST_SCALE**2)).sum())
        value, precision = self.prior(state)
        shared, shared_precision = self.shared_prior(state)
        total += float((precision * value**2).sum() + (shared_precision * shared**2).sum())
        if self.smoothness is not None:
            second, precision = self.second_differences(state)
            total += self.amount * float((precision * second**2 / (1 + precision * second**2 / ROBUST_SCALE**2)).sum())
        return total

    def robust_weights(self, state: State) -> Array:
        """(N, P) of the squared residuals as they are now, over sigma^2."""
        squared = (self.residuals(state) ** 2).sum(-1) / self.sigma**2
        return np.asarray(self.weights / (1 + squared / ROBUST_SCALE**2) ** 2 / self.sigma**2)

    def inliers(self, state: State) -> Array:
        """Mean weight (N,) of a frame's landmarks in [0, 1]: low where a hand or hair hides the face."""
        squared = (self.residuals(state) ** 2).sum(-1) / self.sigma**2
        return np.asarray((self.weights / (1 + squared / ROBUST_SCALE**2) ** 2).sum(1) / self.weights.sum())

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

    def second_differences(self, state: State) -> tuple[Array, Array]:
        """x_{n-1} - 2 x_n + x_{n+1} of the unknowns and its precision, each (N - 2, F); turns as the middle frame sees them."""
        assert self.smoothness is not None
        second = np.empty((len(state.t) - 2, self.num_frame))
        second[:, :3] = _second_turn(state.R)
        second[:, 3:6] = np.diff(state.t, 2, axis=0)
        second[:, NUM_POSE : self.jaw_at] = np.diff(state.expression, 2, axis=0)
        second[:, self.jaw_at : self.jaw_at + NUM_JAW] = _second_turn(state.R_jaw)
        second[:, -NUM_EYES:] = np.diff(state.eyes, 2, axis=0)
        s = self.smoothness
        of_expression = np.where(self.model.blinks, s.blink, s.expression)
        others = np.repeat((s.rotation, s.translation, s.jaw, s.eyes), (3, 3, NUM_JAW, NUM_EYES))
        sigmas = np.concatenate([others[:NUM_POSE], of_expression, others[NUM_POSE:]])
        precision = np.broadcast_to(1 / sigmas**2, second.shape)
        return second, precision if self.follows is None else precision * self.follows[:, None]

    # -- its derivative -----------------------------------------------------------------------------------------------

    def normal(self, state: State, *, shared: bool) -> Normal:
        """The normal equations J^T W J and J^T W r of a Gauss-Newton step, robust weights as they are now."""
        N, F, S = len(state.t), self.num_frame, self.num_shared if shared else 0
        A, B = np.empty((N, F, F)), np.empty((N, F, S))
        C, a, c = np.zeros((S, S)), np.empty((N, F)), np.zeros(S)
        for start in range(0, N, CHUNK):
            part = slice(start, start + CHUNK)
            J, r = self.weighted_jacobian(state.frames(part), self.seen.frames(part), shared=shared)
            J, r = J.reshape(len(J), -1, F + S), r.reshape(len(r), -1, 1)
            H = J.transpose(0, 2, 1) @ J  # (n, F + S, F + S)
            g = (J.transpose(0, 2, 1) @ r)[..., 0].astype(np.float64)
            A[part], B[part], a[part] = H[:, :F, :F], H[:, :F, F:], g[:, :F]
            C += H[:, F:, F:].sum(0, dtype=np.float64)
            c += g[:, F:].sum(0)
        value, precision = self.prior(state)
        A[:, np.arange(F), np.arange(F)] += precision
        a += precision * value
        if shared:
            value, precision = self.shared_prior(state)
            C[np.diag_indices(S)] += precision
            c += precision * value
        return Normal(A, B, C, a, c, *(self.coupling(state) if self.smoothness is not None else (None, None)))

    def coupling(self, state: State) -> tuple[Array, Array]:
        """Robustly weighted precisions (N - 2, F) of the second differences, and the differences themselves."""
        second, precision = self.second_differences(state)
        return self.amount * precision / (1 + precision * second**2 / ROBUST_SCALE**2) ** 2, second

    def weighted_jacobian(self, state: State, seen: Seen, *, shared: bool) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """d residual / d (a frame's unknowns, shared ones), (N, P, 2, F or F + S), and residuals (N, P, 2), float32.

        Both are over sigma and times the root of the points' robust weights.
        Slides are taken as they are: they change little with a step.
        """
        F, E = self.num_frame, self.num_expression
        N, P = seen.points.shape[:2]
        s, joints = self.shape(state)
        slides = _blend(view_terms(state.R, state.t), self.model.slides)
        turns = self.turns(state)
        which = [joint for joint, _ in turns]
        turned = np.stack([R for _, R in turns], 1)  # (N, 3, 3, 3)
        K = seen.K(state.log_focal)
        J = np.empty((N, P, 2, F + (self.num_shared if shared else 0)), np.float32)
        r, by_focal = np.empty((N, P, 2), np.float32), np.empty((N, P, 2), np.float32)
        rows, shape_rows = np.empty((N, P, 2, 3), np.float32), np.empty((N, P, 2, 3), np.float32)
        kernels.fill_pose_columns(
            s, slides, state.R, state.t, np.broadcast_to(joints[:, which], (N, 3, 3)).copy(), turned,
            self.model.weights[:, which].copy(), self._moved_by_correctives(turned), K[:, 0, 0], K[:, :2, 2].copy(),
            seen.points, seen.eye_distance, self.weights, self.sigma, ROBUST_SCALE, self.jaw_at,
            J, r, rows, shape_rows, by_focal,
        )  # fmt: skip
        kernels.fill_basis_columns(J, NUM_POSE, shape_rows, self.expression_columns)
        if shared:
            kernels.fill_basis_columns(J, F, shape_rows, self.identity_columns)
            self._add_joints(J[..., F:-1], rows, turns, self.model.joint_identity)
            J[..., -1] = by_focal
        if self.model.joint_expression is not None:
            self._add_joints(J[..., NUM_POSE : NUM_POSE + E], rows, turns, self.model.joint_expression)
        return J, r

    def _moved_by_correctives(self, turned: Array) -> Array:
        """What correctives add to the shape for a turn of the jaw about x, y, z and of both eyes about x, y: (N, 5, P, 3).

        The eyes' angles are small, so turning about a fixed axis and adding to the axis-angle are the same to first order.
        """
        if self.model.correctives is None:
            return np.empty((0, kernels.NUM_TURNS, 1, 3))
        by_turn = np.zeros((len(turned), kernels.NUM_TURNS, 3, 9))
        for axis in range(NUM_JAW):
            by_turn[:, axis, 0] = (_SKEWS[axis] @ turned[:, 0]).reshape(-1, 9)
        for axis in range(NUM_EYES):
            for eye in (1, 2):
                by_turn[:, NUM_JAW + axis, eye] = (_SKEWS[axis] @ turned[:, eye]).reshape(-1, 9)
        moved = _blend(by_turn.reshape(-1, 27), self.model.correctives)
        return moved.reshape(len(turned), kernels.NUM_TURNS, *moved.shape[1:])

    def _add_joints(
        self, J: NDArray[np.float32], rows: NDArray[np.float32], turns: list[tuple[int, Array]], basis: Array
    ) -> None:
        """Adds what comes from joints that a basis (K, 5, 3) moves: w_j (1 - R_j) dJ_j."""
        for joint, R in turns:
            touched = np.flatnonzero(self.model.weights[:, joint])
            if not np.any(basis[:, joint]):
                continue
            moved = ((np.eye(3) - R) @ basis[:, joint].T).astype(np.float32)  # (N, 3, K)
            weight = self.model.weights[touched, joint].astype(np.float32)
            part = (weight[:, None, None] * rows[:, touched]).reshape(len(J), -1, 3) @ moved
            J[:, touched] += part.reshape(len(J), len(touched), 2, -1)

    def moved(self, state: State, frames: Array, shared: Array) -> State:
        """The state after a step of frames (N, F) and shared (S,) or (0,); rotations move by left multiplication."""
        return State(
            state.identity + shared[:-1] if len(shared) else state.identity,
            state.log_focal + float(shared[-1]) if len(shared) else state.log_focal,
            rotation(frames[:, :3]) @ state.R,
            state.t + frames[:, 3:6],
            state.expression + frames[:, NUM_POSE : self.jaw_at],
            rotation(frames[:, self.jaw_at : self.jaw_at + NUM_JAW]) @ state.R_jaw,
            state.eyes + frames[:, -NUM_EYES:],
        )


_SKEWS = np.array([[[0, 0, 0], [0, 0, -1], [0, 1, 0]], [[0, 0, 1], [0, 0, 0], [-1, 0, 0]], [[0, -1, 0], [1, 0, 0], [0, 0, 0]]])


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


def _pixels(x: Array, K: Array) -> Array:
    """x (N, P, 3) in the camera's frame -> (N, P, 2)."""
    return x[..., :2] / x[..., 2:] * K[:, None, [0, 1], [0, 1]] + K[:, None, [0, 1], [2, 2]]


def rotation(vectors: Array) -> Array:
    """Axis-angle (N, 3) in radians -> (N, 3, 3)."""
    return axis_angle_to_matrix(torch.from_numpy(np.ascontiguousarray(vectors))).numpy()


def axis_angle(R: Array) -> Array:
    """(N, 3, 3) -> (N, 3)."""
    return matrix_to_axis_angle(torch.from_numpy(np.ascontiguousarray(R))).numpy()


def _second_turn(R: Array) -> Array:
    """log(R_{n-1} R_n^T) + log(R_{n+1} R_n^T), (N - 2, 3)."""
    back = R[1:-1].transpose(0, 2, 1)
    return axis_angle(R[:-2] @ back) + axis_angle(R[2:] @ back)


def _blend(coefficients: Array, basis: Array) -> Array:
    """sum_k coefficients (N, K) basis (K, P, 3) -> (N, P, 3)."""
    return (coefficients @ basis.reshape(len(basis), -1)).reshape(len(coefficients), *basis.shape[1:])
