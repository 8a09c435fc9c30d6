"""Fitting a parametric head to the landmarks of one segment: pose and expression per frame, identity and focal length shared.

A batched Levenberg-Marquardt solver. A frame has F unknowns of its own (rotation, translation, expression, jaw, eyes) and
all frames share S (identity, log focal length). The normal equations have an arrow's shape, so the frames' blocks are
eliminated first (Schur complement) and the cost grows linearly with the number of frames.

Shapes: N frames, P = 478 landmarks, I identity and E expression coefficients. Lengths in metres, pixels are those of the
stored crop, float64 throughout. The crop is a window that moves over the source picture, so each frame has its own K: the
source camera's focal length over the crop's scale, its principal point (the source's centre) seen from the crop.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from avatar_models.heads.interface import Head
from avatar_models.heads.skinning import JAW, LEFT_EYE, RIGHT_EYE
from avatar_models.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from avatar_models.tracking.quality import FACE_OVAL, IRISES, inter_ocular, reprojection_error

Array = NDArray[np.float64]

FIRST_FOCAL = 1.5
"""Focal length over the source picture's larger side, before it is estimated: between a webcam's and a portrait lens's."""
FOCAL_SIGMA = 0.25  # of its logarithm
LANDMARK_SIGMA = 0.04
"""Standard deviation of a detected landmark over the inter-ocular distance. Neighbouring landmarks err together, so this is
larger than the scatter of one of them."""
ROBUST_SCALE = 0.12  # over the inter-ocular distance: residuals beyond it lose their weight (Geman-McClure)
OVAL_WEIGHT = 0.15  # the detector's face contour slides along the cheek as the head turns
IRIS_WEIGHT = 2.0
EXPRESSION_SIGMA = 0.6
NEGATIVE_SIGMA = 0.05  # expressions are one-sided
JAW_SIGMA = np.array([0.3, 0.03, 0.03])  # radians: a jaw opens; it hardly turns or tilts
EYE_SIGMA = 0.35
SMOOTH_ROTATION = 0.02  # radians between a frame and the mean of its neighbours
SMOOTH_TRANSLATION = 0.002  # metres
SMOOTH_EXPRESSION = 0.15
CHUNK = 16  # frames whose Jacobian is in the processor's cache at a time
CONVERGED = 1e-3
"""The solver stops when a step lowers the cost by less than this share."""
NUM_POSE = 6
NUM_EYES = 2  # both eyes turn together: about x, about y


@dataclass(frozen=True)
class ClipFit:
    """A fitted segment."""

    K: Array  # (N, 3, 3)
    viewmat: Array  # (N, 4, 4) head's frame to camera
    identity: Array  # (I,)
    expression: Array  # (N, E)
    neck: Array  # (N, 3), zero: the head's rigid motion is in viewmat
    jaw: Array  # (N, 3)
    eyes: Array  # (N, 6)
    reprojection: Array  # (N,) median distance over the inter-ocular distance
    projected: Array  # (N, 478, 2) the model's landmarks in crop pixels


@dataclass(frozen=True)
class _Model:
    """The head at the detector's landmarks alone."""

    template: Array  # (P, 3)
    identity: Array  # (I, P, 3)
    expression: Array  # (E, P, 3)
    joints: Array  # (5, 3)
    joint_identity: Array  # (I, 5, 3)
    weights: Array  # (P, 5)


@dataclass
class _State:
    identity: Array  # (I,)
    log_focal: float  # of the focal length in source pixels
    R: Array  # (N, 3, 3)
    t: Array  # (N, 3)
    expression: Array  # (N, E)
    R_jaw: Array  # (N, 3, 3)
    eyes: Array  # (N, 2)


def fit_clip(
    head: Head,
    points: NDArray[np.float32],  # (N, 478, 2 or 3) crop pixels
    crop: NDArray[np.float32],  # (N, 3) x0, y0, scale of the stored crop in the source picture
    source_size: tuple[int, int],  # width, height in pixels
    *,
    iterations: int,
    smoothness: float,  # 0 is none, 1 the default
) -> ClipFit:
    """Fits the head to a segment's landmarks. Raises ValueError for points that are not finite, naming the frame."""
    observed = np.asarray(points[..., :2], np.float64)
    bad = np.flatnonzero(~np.isfinite(observed).all((1, 2)))
    if len(bad):
        raise ValueError(f"landmarks of frame {bad[0]} of the segment are not finite")
    problem = _Problem(head, observed, np.asarray(crop, np.float64), source_size, smoothness)
    state = problem.first_state()
    damping, cost = 1e-2, np.inf
    for _ in range(iterations):
        residual, projected = problem.residuals(state)
        normal = problem.normal_equations(state, residual)
        for _ in range(4):
            trial = problem.moved(state, *problem.solve(normal, damping))
            trial_cost = problem.cost(trial)
            if trial_cost < cost:
                gain, cost, state = cost - trial_cost, trial_cost, trial
                damping = max(damping * 0.3, 1e-6)
                break
            damping *= 10.0
        else:
            break
        if gain < CONVERGED * cost:
            break
    _, projected = problem.residuals(state)
    return problem.result(state, projected)


class _Problem:
    def __init__(self, head: Head, observed: Array, crop: Array, source_size: tuple[int, int], smoothness: float) -> None:
        self.observed, self.crop, self.source_size = observed, crop, source_size
        self.model = _landmark_model(head)
        self.eye_distance = inter_ocular(observed)  # (N,) pixels
        self.weights = head.landmark_weights.double().numpy().copy()
        self.weights[FACE_OVAL] *= OVAL_WEIGHT
        self.weights[IRISES] *= IRIS_WEIGHT
        self.smoothness = smoothness
        self.num_expression = len(self.model.expression)
        self.num_frame = NUM_POSE + self.num_expression + 3 + NUM_EYES
        self.num_shared = len(self.model.identity) + 1
        # (P, 3, E) and (P, 3, I): products with them give the Jacobian's columns
        self.expression_columns = np.ascontiguousarray(self.model.expression.transpose(1, 2, 0), np.float32)
        self.identity_columns = np.ascontiguousarray(self.model.identity.transpose(1, 2, 0), np.float32)
        self.first_log_focal = float(np.log(FIRST_FOCAL * max(source_size)))

    # -- the camera and the model -------------------------------------------------------------------------------------

    def K(self, log_focal: float) -> Array:
        """(N, 3, 3) in crop pixels."""
        x0, y0, scale = self.crop.T
        K = np.zeros((len(self.crop), 3, 3))
        K[:, 0, 0] = K[:, 1, 1] = np.exp(log_focal) / scale
        K[:, 0, 2] = (self.source_size[0] / 2 - x0) / scale
        K[:, 1, 2] = (self.source_size[1] / 2 - y0) / scale
        K[:, 2, 2] = 1.0
        return K

    def first_state(self) -> _State:
        """The neutral head posed on each frame by itself (PnP)."""
        N = len(self.observed)
        K = self.K(self.first_log_focal)
        R, t = np.empty((N, 3, 3)), np.empty((N, 3))
        used = np.flatnonzero(self.weights > 0.5 * self.weights.max())[::3]
        facing = np.diag([1.0, -1.0, -1.0])  # a face that looks into the camera
        rvec = cv2.Rodrigues(facing)[0]
        for n in range(N):
            depth = K[n, 0, 0] * 0.063 / self.eye_distance[n]
            middle = self.observed[n].mean(0)
            place = np.array([(middle[0] - K[n, 0, 2]) / K[n, 0, 0], (middle[1] - K[n, 1, 2]) / K[n, 1, 1], 1.0]) * depth
            _, rotation, translation = cv2.solvePnP(
                self.model.template[used], self.observed[n][used], K[n], None, rvec.copy(), place.reshape(3, 1).copy(),
                useExtrinsicGuess=True, flags=cv2.SOLVEPNP_ITERATIVE,
            )  # fmt: skip
            R[n], t[n] = cv2.Rodrigues(rotation)[0], translation[:, 0]
            if t[n, 2] <= 0 or R[n, 2, 2] > 0:  # behind the camera, or seen from behind: the guess is better
                R[n], t[n] = facing, place
        eye = np.broadcast_to(np.eye(3), (N, 3, 3)).copy()
        return _State(
            np.zeros(self.num_shared - 1),
            self.first_log_focal,
            R,
            t,
            np.zeros((N, self.num_expression)),
            eye,
            np.zeros((N, NUM_EYES)),
        )

    def shape(self, state: _State) -> tuple[Array, Array]:
        """Points before posing (N, P, 3) and joints (5, 3)."""
        neutral = self.model.template + np.tensordot(state.identity, self.model.identity, 1)
        s = neutral + np.tensordot(state.expression, self.model.expression, 1)
        return s, self.model.joints + np.tensordot(state.identity, self.model.joint_identity, 1)

    def turned(self, state: _State) -> tuple[Array, list[tuple[int, Array]]]:
        """M (N, P, 3, 3), the blend of rotations of each point, and the joints that turn with their (N, 3, 3)."""
        R_eyes = _rotation(np.concatenate([state.eyes, np.zeros((len(state.eyes), 1))], 1))
        turns = [(JAW, state.R_jaw), (LEFT_EYE, R_eyes), (RIGHT_EYE, R_eyes)]
        M = np.broadcast_to(np.eye(3), (len(state.t), len(self.weights), 3, 3)).copy()
        for joint, R in turns:
            M += self.model.weights[:, joint, None, None] * (R - np.eye(3))[:, None]
        return M, turns

    def posed(self, state: _State) -> Array:
        """Landmarks (N, P, 3) in the head's frame: sum_j w_j (R_j (s - J_j) + J_j)."""
        s, joints = self.shape(state)
        M, turns = self.turned(state)
        p = np.einsum("npij,npj->npi", M, s)
        for joint, R in turns:
            p += self.model.weights[:, joint, None] * (joints[joint] - R @ joints[joint])[:, None]
        return p

    def residuals(self, state: _State) -> tuple[Array, Array]:
        """(projected - observed) over the inter-ocular distance (N, P, 2), and the projected points."""
        x = self.posed(state) @ state.R.transpose(0, 2, 1) + state.t[:, None]
        K = self.K(state.log_focal)
        projected = x[..., :2] / x[..., 2:] * K[:, None, [0, 1], [0, 1]] + K[:, None, [0, 1], [2, 2]]
        return (projected - self.observed) / self.eye_distance[:, None, None], projected

    # -- the least-squares problem ------------------------------------------------------------------------------------

    def cost(self, state: _State) -> float:
        residual, _ = self.residuals(state)
        squared = (residual**2).sum(-1)
        data = self.weights * squared / (1 + squared / ROBUST_SCALE**2) / LANDMARK_SIGMA**2
        prior, shared_prior = self.priors(state)
        return float(data.sum() + sum((p * r * r).sum() for r, p in prior) + (shared_prior[1] * shared_prior[0] ** 2).sum())

    def priors(self, state: _State) -> tuple[list[tuple[Array, Array]], tuple[Array, Array]]:
        """(residual, precision) of the frames' unknowns, each (N, F), and of the shared ones, each (S,)."""
        N, E = state.expression.shape
        value = np.zeros((N, self.num_frame))
        precision = np.zeros_like(value)
        expression = slice(NUM_POSE, NUM_POSE + E)
        value[:, expression] = state.expression
        precision[:, expression] = 1 / np.where(state.expression < 0, NEGATIVE_SIGMA, EXPRESSION_SIGMA) ** 2
        value[:, expression.stop : expression.stop + 3] = _axis_angle(state.R_jaw)
        precision[:, expression.stop : expression.stop + 3] = 1 / JAW_SIGMA**2
        value[:, -NUM_EYES:] = state.eyes
        precision[:, -NUM_EYES:] = 1 / EYE_SIGMA**2
        terms = [(value, precision)]
        if self.smoothness > 0 and N >= 3:
            terms.append(self._smoothness(state))
        shared = np.append(state.identity, state.log_focal - self.first_log_focal)
        shared_precision = np.append(np.ones(len(state.identity)), 1 / FOCAL_SIGMA**2)
        # One prior for the whole clip stands against the landmarks of all frames; it grows with them, so that a long
        # clip of one view is held as firmly as a short one.
        return terms, (shared, shared_precision * max(1.0, N / 10))

    def _smoothness(self, state: _State) -> tuple[Array, Array]:
        """Each frame against the mean of its two neighbours as they are now."""
        N, E = state.expression.shape
        value, precision = np.zeros((N, self.num_frame)), np.zeros((N, self.num_frame))
        inner = slice(1, N - 1)
        between = (state.R[:-2] @ state.R[1:-1].transpose(0, 2, 1), state.R[2:] @ state.R[1:-1].transpose(0, 2, 1))
        value[inner, :3] = -(_axis_angle(between[0]) + _axis_angle(between[1])) / 2
        value[inner, 3:6] = state.t[1:-1] - (state.t[:-2] + state.t[2:]) / 2
        expression = slice(NUM_POSE, NUM_POSE + E)
        value[inner, expression] = state.expression[1:-1] - (state.expression[:-2] + state.expression[2:]) / 2
        precision[inner, :3] = self.smoothness / SMOOTH_ROTATION**2
        precision[inner, 3:6] = self.smoothness / SMOOTH_TRANSLATION**2
        precision[inner, expression] = self.smoothness / SMOOTH_EXPRESSION**2
        return value, precision

    def normal_equations(self, state: _State, residual: Array) -> tuple[Array, Array, Array, Array, Array]:
        """Blocks of J^T W J and J^T W r: frames (N, F, F), frames x shared (N, F, S), shared (S, S), and both gradients."""
        width, N = self.num_frame, len(residual)
        A, B = np.empty((N, width, width)), np.empty((N, width, self.num_shared))
        C = np.zeros((self.num_shared, self.num_shared))
        a, c = np.empty((N, width)), np.zeros(self.num_shared)
        squared = (residual**2).sum(-1)
        w = self.weights / (1 + squared / ROBUST_SCALE**2) ** 2 / LANDMARK_SIGMA**2  # Geman-McClure
        for start in range(0, N, CHUNK):
            part = slice(start, start + CHUNK)
            J = self.jacobian(state, part)
            J *= np.sqrt(w[part], dtype=np.float32)[:, :, None, None]
            r = (residual[part] * np.sqrt(w[part])[:, :, None]).astype(np.float32)
            J, r = J.reshape(len(J), -1, J.shape[-1]), r.reshape(len(r), -1, 1)
            H = (J.transpose(0, 2, 1) @ J).astype(np.float64)  # (n, F + S, F + S)
            g = (J.transpose(0, 2, 1) @ r)[..., 0].astype(np.float64)
            A[part], B[part] = H[:, :width, :width], H[:, :width, width:]
            a[part] = g[:, :width]
            C += H[:, width:, width:].sum(0)
            c += g[:, width:].sum(0)
        terms, (shared, shared_precision) = self.priors(state)
        for value, precision in terms:
            A[:, np.arange(width), np.arange(width)] += precision
            a += precision * value
        C[np.diag_indices(len(C))] += shared_precision
        return A, B, C, a, c + shared_precision * shared

    def jacobian(self, state: _State, part: slice) -> NDArray[np.float32]:
        """d residual / d (frame's unknowns, shared ones) of some frames, (n, P, 2, F + S); float32 suffices for a direction."""
        E, width = self.num_expression, self.num_frame
        frames = _State(
            state.identity,
            state.log_focal,
            state.R[part],
            state.t[part],
            state.expression[part],
            state.R_jaw[part],
            state.eyes[part],
        )
        s, joints = self.shape(frames)
        M, turns = self.turned(frames)
        Rp = self.posed(frames) @ frames.R.transpose(0, 2, 1)
        x = Rp + frames.t[:, None]
        f = self.K(state.log_focal)[part, 0, 0][:, None]
        eye_distance = self.eye_distance[part]
        D = np.zeros((*x.shape[:2], 2, 3))  # d residual / d x
        D[..., 0, 0] = D[..., 1, 1] = f / x[..., 2]
        D[..., 0, 2] = -f * x[..., 0] / x[..., 2] ** 2
        D[..., 1, 2] = -f * x[..., 1] / x[..., 2] ** 2
        D /= eye_distance[:, None, None, None]
        DR = D @ frames.R[:, None]
        DRM = (DR @ M).astype(np.float32)

        J = np.empty((*x.shape[:2], 2, width + self.num_shared), np.float32)
        J[..., 0:3] = D @ -_skew(Rp)
        J[..., 3:6] = D
        J[..., 6 : 6 + E] = DRM @ self.expression_columns
        about_jaw = np.einsum("nij,npj->npi", frames.R_jaw, s - joints[JAW])
        J[..., 6 + E : 9 + E] = DR @ -_skew(self.model.weights[:, JAW, None] * about_jaw)
        eyes = np.zeros_like(s)
        for joint, R in turns[1:]:
            eyes += self.model.weights[:, joint, None] * np.einsum("nij,npj->npi", R, s - joints[joint])
        # The eyes' angles are small, so turning about a fixed axis and adding to the axis-angle are the same to first order.
        J[..., 9 + E : 9 + E + NUM_EYES] = (DR @ -_skew(eyes))[..., :NUM_EYES]
        J[..., width:-1] = DRM @ self.identity_columns
        for joint, R in turns:
            touched = np.flatnonzero(self.model.weights[:, joint])
            moved = (np.eye(3) - R) @ self.model.joint_identity[:, joint].T  # (n, 3, I)
            J[:, touched, :, width:-1] += (self.model.weights[touched, joint, None, None] * DR[:, touched]) @ moved[:, None]
        J[..., -1] = x[..., :2] / x[..., 2:] * (f / eye_distance[:, None])[..., None]
        return J

    def solve(self, normal: tuple[Array, Array, Array, Array, Array], damping: float) -> tuple[Array, Array]:
        """The damped step: frames (N, F) and shared (S,), the frames eliminated by the Schur complement."""
        A, B, C, a, c = normal
        A = A + damping * A * np.eye(A.shape[1])
        C = C + damping * np.diag(np.diag(C))
        A_inverse_B = np.linalg.solve(A, np.concatenate([B, a[..., None]], 2))
        schur = C - np.einsum("nfs,nft->st", B, A_inverse_B[..., :-1])
        step = np.linalg.solve(schur, -(c - np.einsum("nfs,nf->s", B, A_inverse_B[..., -1])))
        return -A_inverse_B[..., -1] - A_inverse_B[..., :-1] @ step, step

    def moved(self, state: _State, frames: Array, shared: Array) -> _State:
        """The state after a step; rotations move by left multiplication."""
        E = self.num_expression
        return _State(
            state.identity + shared[:-1],
            state.log_focal + float(shared[-1]),
            _rotation(frames[:, :3]) @ state.R,
            state.t + frames[:, 3:6],
            state.expression + frames[:, 6 : 6 + E],
            _rotation(frames[:, 6 + E : 9 + E]) @ state.R_jaw,
            state.eyes + frames[:, 9 + E :],
        )

    def result(self, state: _State, projected: Array) -> ClipFit:
        N = len(state.t)
        viewmat = np.tile(np.eye(4), (N, 1, 1))
        viewmat[:, :3, :3], viewmat[:, :3, 3] = state.R, state.t
        eyes = np.concatenate([state.eyes, np.zeros((N, 1))], 1)
        return ClipFit(
            self.K(state.log_focal), viewmat, state.identity, state.expression, np.zeros((N, 3)), _axis_angle(state.R_jaw),
            np.concatenate([eyes, eyes], 1), reprojection_error(projected, self.observed), projected,
        )  # fmt: skip


def _landmark_model(head: Head) -> _Model:
    """The rig's arrays at the landmarks: barycentric means over their triangles."""
    corners = head.faces[head.landmark_faces]  # (P, 3)
    part = head.rig.to(dtype=torch.float64).take(corners.flatten())
    bary = head.landmark_barycentric.double()

    def at_landmarks(values: torch.Tensor) -> Array:  # (..., 3 P, C) -> (..., P, C)
        shaped = values.reshape(*values.shape[:-2], len(corners), 3, values.shape[-1])
        return (shaped * bary[:, :, None]).sum(-2).numpy()

    return _Model(
        at_landmarks(part.template), at_landmarks(part.identity_basis), at_landmarks(part.expression_basis),
        part.joints.numpy(), part.joint_identity_basis.numpy(), at_landmarks(part.weights),
    )  # fmt: skip


def _rotation(axis_angle: Array) -> Array:
    return axis_angle_to_matrix(torch.from_numpy(np.ascontiguousarray(axis_angle))).numpy()


def _axis_angle(R: Array) -> Array:
    return matrix_to_axis_angle(torch.from_numpy(np.ascontiguousarray(R))).numpy()


def _skew(v: Array) -> Array:
    x, y, z = np.moveaxis(v, -1, 0)
    zero = np.zeros_like(x)
    return np.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(*v.shape, 3)
