"""How well made frames re-enact wanted ones: the figures of GAGAvatar's Table 1 (Chu and Harada 2024) that look at faces.

One detector and one tracker look at the made and at the wanted frames alike. They are this project's own, where the paper has
others: 478 points of MediaPipe for 68 of insightface, the project's head for Deep3DFaceRecon's, for CSIM the given network.
So figures compare with each other, methods and baselines under one head, and not with the paper's.
PSNR, SSIM and LPIPS are in `metrics.py` and `lpips.py`.

A frame in which no face is found has no figure: it is NaN there, is counted, and is not part of a mean. T frames, S x S pixels,
I identity and E expression coefficients. Landmarks are pixels with centres at +0.5.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from avatar_models.face_embedding import FaceEmbedder, cosine_similarity, embeddings
from avatar_models.heads.interface import Head
from avatar_models.tracking.detect import NUM_LANDMARKS, FaceTracker
from avatar_models.tracking.fit import fit_clip
from avatar_models.tracking.state import axis_angle

Array = NDArray[np.float64]
Pictures = NDArray[np.uint8]
Points = NDArray[np.float32]

LIPS = (13, 14)  # the middles of the upper and the lower inner lip, in MediaPipe's face mesh
BROW_TO_CHIN = (10, 152)
FACING = np.diag([1.0, -1.0, -1.0])
"""The head's frame in an OpenCV camera that it looks into."""
ITERATIONS = 15
SECONDS_APART = 1.0
"""What the detector is told of its pictures, which need not be neighbours in time."""


@dataclass(frozen=True)
class Footage:
    """Frames of one person, and what a tracker has to know of them."""

    pictures: Pictures  # (T, S, S, 3) RGB
    K: Array  # (T, 3, 3) pixels
    identity: NDArray[np.floating]  # (I,) of the person shown

    def __post_init__(self) -> None:
        count, *shape = self.pictures.shape
        if len(shape) != 3 or shape[0] != shape[1] or shape[2] != 3 or self.pictures.dtype != np.uint8:
            raise ValueError(f"pictures must be (T, S, S, 3) uint8, are {self.pictures.shape} {self.pictures.dtype}")
        if self.K.shape != (count, 3, 3):
            raise ValueError(f"K must be ({count}, 3, 3) like the pictures, is {self.K.shape}")


@dataclass(frozen=True)
class Likeness:
    """Whom the made frames should look like: the wanted frames, or in cross reenactment pictures of the source."""

    embed: FaceEmbedder
    vectors: Array  # (T or 1, D) unit vectors of those pictures' faces; NaN where there is none


@dataclass(frozen=True)
class Tracked:
    """What is seen of a person's motion in T frames; NaN where no face is found."""

    points: Points  # (T, 478, 3) pixels
    expression: Array  # (T, E)
    rotation: Array  # (T, 3) axis-angle in radians, zero for a face that looks straight along the camera's axis

    @property
    def found(self) -> NDArray[np.bool_]:
        """(T,) whether a face is found."""
        return np.isfinite(self.points).all((1, 2))


@dataclass(frozen=True)
class Reenactment:
    """Figures of T frames; NaN where no face is found in one of the pictures that they compare."""

    size: int  # side of the pictures in pixels, which `akd` is in
    akd: Array  # (T,) mean distance of landmarks, pixels
    aed: Array  # (T,) mean absolute difference of expression coefficients, in the head's units
    apd: Array  # (T,) mean absolute difference of the rotation's three numbers, radians
    mouth_made: Array  # (T,) mouth opening over the face's height
    mouth_wanted: Array  # (T,)
    found_made: NDArray[np.bool_]  # (T,) whether a face is found in the made frame
    found_wanted: NDArray[np.bool_]  # (T,)
    csim: Array | None  # (T,) cosine of face embeddings, at most 1; None where no network was given

    def means(self) -> dict[str, float | None]:
        """Mean figures over the frames that have them, and how many frames have none; None where there is nothing to tell."""
        return {
            "frames": float(len(self.akd)),
            "no_face_made": float((~self.found_made).sum()),
            "no_face_wanted": float((~self.found_wanted).sum()),
            "akd": _mean(self.akd),
            "aed": _mean(self.aed),
            "apd": _mean(self.apd),
            "mouth_correlation": correlation(self.mouth_made, self.mouth_wanted),
            "csim": None if self.csim is None else _mean(self.csim),
            "no_csim": None if self.csim is None else float(np.isnan(self.csim).sum()),
        }


def likeness_to(embed: FaceEmbedder, pictures: Pictures, points: NDArray[np.floating]) -> Likeness:
    """Likeness to the faces of pictures (T or 1, H, W, 3) at landmarks (T or 1, 478, 2 or 3) in pixels."""
    return Likeness(embed, embeddings(embed, pictures, points))


def reenactment_figures(
    made: Footage, meant: Tracked, head: Head, likeness: Likeness | None = None, task: bytes | None = None
) -> Reenactment:
    """Compares made frames with what is seen of as many wanted ones of the same size, frame by frame.

    The wanted frames are looked at once (`track_known`), whatever is compared with them. In self reenactment both show one
    person; in cross reenactment the wanted frames are the driver's, `made.identity` is the source's and `likeness` is to
    pictures of the source. `task` are the bytes of a FaceLandmarker, for its points. Raises ValueError for numbers of frames
    that do not go together.
    """
    if len(made.pictures) != len(meant.points):
        raise ValueError(f"{len(made.pictures)} made frames are compared with as many wanted ones, not {len(meant.points)}")
    seen = track_known(made, head, task)
    csim = None if likeness is None else identity_similarity(made.pictures, seen.points, likeness)
    return Reenactment(
        size=made.pictures.shape[1],
        akd=keypoint_distance(seen.points, meant.points),
        aed=mean_difference(seen.expression, meant.expression),
        apd=mean_difference(seen.rotation, meant.rotation),
        mouth_made=mouth_opening(seen.points),
        mouth_wanted=mouth_opening(meant.points),
        found_made=seen.found,
        found_wanted=meant.found,
        csim=csim,
    )


def track_known(footage: Footage, head: Head, task: bytes | None = None) -> Tracked:
    """Expression and head rotation of frames whose camera and person are known, from the pictures alone.

    Each frame is fitted by itself: nothing is smoothed over time, since frames need not be neighbours.
    """
    points = landmarks_of(footage.pictures, task)
    expression, rotation = refit(head, footage.identity, points, footage.K)
    return Tracked(points, expression, rotation)


def landmarks_of(pictures: Pictures, task: bytes | None = None) -> Points:
    """The detector's landmarks (T, 478, 3) in pictures (T, H, W, 3), in pixels; NaN for a picture in which it finds no face.

    Pictures are of heads: a face that fills a small part of one is not looked for.
    """
    points = np.full((len(pictures), NUM_LANDMARKS, 3), np.nan, np.float32)
    with closing(FaceTracker(SECONDS_APART, task=task, small_faces=False)) as tracker:
        for t, picture in enumerate(pictures):
            seen = tracker.observe(np.ascontiguousarray(picture), t * SECONDS_APART)
            if seen is not None:
                points[t] = seen.points
    return points


def refit(head: Head, identity: NDArray[np.floating], points: NDArray[np.floating], K: Array) -> tuple[Array, Array]:
    """Expression (T, E) and rotation (T, 3) of a known person, from landmarks (T, 478, 2 or 3) and K (T, 3, 3) in pixels.

    Rotations are axis-angle in radians, zero for a face that looks straight along the camera's axis; x is to the person's left,
    y up. NaN where landmarks are. Identity (I,) and focal lengths are kept as given.
    """
    seen = np.isfinite(points[..., :2]).all((1, 2))
    expression, rotation = np.full((len(points), head.num_expression), np.nan), np.full((len(points), 3), np.nan)
    if seen.any():
        cameras, focal = K[seen], float(K[seen][0, 0, 0])
        # Cameras may differ from frame to frame, and in x and y: the points are moved to where one camera sees them, in pixels
        # from its principal point.
        moved = focal * (points[seen, :, :2] - cameras[:, None, :2, 2]) / cameras[:, None, [0, 1], [0, 1]]
        whole = np.tile(np.array([[0.0, 0.0, 1.0]], np.float32), (len(cameras), 1))
        fit = fit_clip(
            head.of_person(torch.from_numpy(np.asarray(identity))), moved.astype(np.float32), whole, (0, 0),
            iterations=ITERATIONS, smoothness=0.0, focal=focal,
        )  # fmt: skip
        expression[seen], rotation[seen] = fit.expression, axis_angle(FACING @ fit.viewmat[:, :3, :3])
    return expression, rotation


def keypoint_distance(points: NDArray[np.floating], others: NDArray[np.floating]) -> Array:
    """AKD (T,): mean distance of landmarks (T, P, 2 or 3) in the picture's plane, in their unit; NaN where either is."""
    away = np.asarray(points[..., :2], np.float64) - others[..., :2]
    return np.asarray(np.linalg.norm(away, axis=-1).mean(1))


def mean_difference(values: Array, others: Array) -> Array:
    """AED or APD (T,): mean absolute difference of coefficients (T, N); NaN where either is.

    The mean over the coefficients, as the authors' code has it and as the magnitudes in their table fit.
    """
    return np.asarray(np.abs(values - others).mean(1))


def mouth_opening(points: NDArray[np.floating]) -> Array:
    """How far the inner lips are apart (T,), over the face's height from forehead to chin; of landmarks (T, 478, 2 or 3)."""
    lips, face = (np.linalg.norm(points[:, a, :2] - points[:, b, :2], axis=-1) for a, b in (LIPS, BROW_TO_CHIN))
    return np.asarray(lips / face, np.float64)


def correlation(values: Array, others: Array) -> float | None:
    """Pearson's correlation of two series (T,) where both are numbers; None of fewer than three, or where one never changes.

    A mouth that stands still is seen to move by the detector's noise: its correlation is that noise's, about 0.
    """
    both = np.isfinite(values) & np.isfinite(others)
    a, b = values[both], others[both]
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(np.corrcoef(a, b)[0, 1])


def identity_similarity(pictures: Pictures, points: Points, likeness: Likeness) -> Array:
    """CSIM (T,) of pictures (T, H, W, 3), landmarks (T, 478, 3), to whom they should look like; NaN where a face is missing.

    Raises ValueError for a number of pictures to be like that is neither one nor theirs.
    """
    if len(likeness.vectors) not in (1, len(pictures)):
        raise ValueError(f"likeness to {len(likeness.vectors)} pictures: give one, or {len(pictures)} like the made frames")
    return cosine_similarity(embeddings(likeness.embed, pictures, points), likeness.vectors)


def _mean(values: Array) -> float | None:
    there = values[np.isfinite(values)]
    return float(there.mean()) if len(there) else None
