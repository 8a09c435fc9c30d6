"""A parametric head as a landmark detector sees it: the rig's arrays at the 478 points alone.

P = 478 points, I identity and E expression coefficients, lengths in metres, float64.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from avatar_models.heads.interface import Head
from avatar_models.tracking.quality import LIPS

Array = NDArray[np.float64]
NUM_VIEW_TERMS = 5
MOVES_LIPS = 0.25
"""An expression is the mouth's if it moves the lips, on the mean, by this share of what it moves most."""


@dataclass(frozen=True)
class LandmarkHead:
    """The head at the detector's landmarks."""

    template: Array  # (P, 3)
    identity: Array  # (I, P, 3)
    expression: Array  # (E, P, 3)
    joints: Array  # (5, 3)
    joint_identity: Array  # (I, 5, 3)
    joint_expression: Array | None  # (E, 5, 3); None where no joint moves with the expression
    correctives: Array | None  # (27, P, 3) by the entries of R - 1 of jaw, left and right eye; None where there are none
    weights: Array  # (P, 5)
    slides: Array  # (NUM_VIEW_TERMS, P, 3): how a detected point slides over the surface as the view changes
    trust: Array  # (P,) in [0, 1]
    blinks: NDArray[np.bool_]  # (E,) which expressions shut an eye
    mouth: NDArray[np.bool_]  # (E,) and which move the lips


def landmark_head(head: Head) -> LandmarkHead:
    """The rig at the landmarks: barycentric means over their triangles."""
    embedding = head.embedding
    corners = head.faces[embedding.faces]  # (P, 3)
    rig = head.rig.to(dtype=torch.float64)
    part = rig.take(corners.flatten())
    bary = embedding.barycentric.double()

    def at_landmarks(values: torch.Tensor) -> Array:  # (..., 3 P, C) -> (..., P, C)
        shaped = values.reshape(*values.shape[:-2], len(corners), 3, values.shape[-1])
        return (shaped * bary[:, :, None]).sum(-2).numpy()

    expression = at_landmarks(part.expression_basis)
    moved = np.linalg.norm(expression, axis=-1)  # (E, P)
    return LandmarkHead(
        template=at_landmarks(part.template) + embedding.offsets.double().numpy(),
        identity=at_landmarks(part.identity_basis),
        expression=expression,
        joints=rig.joints.numpy(),
        joint_identity=rig.joint_identity_basis.numpy(),
        joint_expression=None if rig.joint_expression_basis is None else rig.joint_expression_basis.numpy(),
        correctives=None if part.pose_basis is None else at_landmarks(part.pose_basis[9:]),
        weights=at_landmarks(part.weights),
        slides=embedding.slides.double().numpy(),
        trust=embedding.weights.double().numpy(),
        blinks=np.array([re.search("blink|eyelid", name, re.IGNORECASE) is not None for name in head.expression_names]),
        mouth=moved[:, LIPS].mean(1) > MOVES_LIPS * moved.max(1),
    )


def points_of(head: Head, vertices: NDArray[np.int64]) -> LandmarkHead:
    """The rig at some of its vertices (M,), as if they were landmarks that the detector sees exactly."""
    rig = head.rig.to(dtype=torch.float64)
    part = rig.take(torch.from_numpy(vertices))
    return LandmarkHead(
        template=part.template.numpy(),
        identity=part.identity_basis.numpy(),
        expression=part.expression_basis.numpy(),
        joints=rig.joints.numpy(),
        joint_identity=rig.joint_identity_basis.numpy(),
        joint_expression=None if rig.joint_expression_basis is None else rig.joint_expression_basis.numpy(),
        correctives=None if part.pose_basis is None else part.pose_basis[9:].numpy(),
        weights=part.weights.numpy(),
        slides=np.zeros((NUM_VIEW_TERMS, len(vertices), 3)),
        trust=np.ones(len(vertices)),
        blinks=np.zeros(head.num_expression, bool),
        mouth=np.zeros(head.num_expression, bool),
    )


def view_terms(R: Array, t: Array) -> Array:
    """(N, NUM_VIEW_TERMS) of the direction to the camera in the head's frame, (x, y, z): x, y, x^2, y^2, x y.

    R (N, 3, 3) and t (N, 3) bring the head's frame to the camera's.
    """
    towards = -np.einsum("nji,nj->ni", R, t)
    x, y, _ = (towards / np.linalg.norm(towards, axis=1, keepdims=True)).T
    return np.stack([x, y, x * x, y * y, x * y], 1)
