"""What all evaluations tell of faces: how they look at an avatar's frames, and the figures' names in tables and in means.

The figures are those of `avatar_models/reenactment.py`, which brings the detector along: it takes a second or two to import, so
what renders and does not judge stays out of here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from avatar_models.cameras import Camera
from avatar_models.reenactment import Footage, Reenactment

FACE_FIGURES = ("akd", "aed", "apd", "csim")
FACE_COLUMNS = (*FACE_FIGURES, "mouth")
"""Of each frame; null where no face is found, and CSIM where its network is not there."""
FACE_MEANS = (*FACE_FIGURES, "mouth_correlation", "no_face_made")
"""Of a person; null where no frame has the figure."""
CROSS_MEANS = tuple(name for name in FACE_MEANS if name != "akd")
"""Of a pair. Landmarks lie where the target's own face has them, so their distance to the driver's says nothing."""
DECIMALS = 4


def footage_of(pictures: torch.Tensor, camera: Camera, identity: Sequence[float] | NDArray[np.floating]) -> Footage:
    """Pictures (T, 3, S, S) in [0, 1] that T cameras see of a person with this identity (I,), as a tracker takes them."""
    return Footage(as_bytes(pictures), camera.K.double().cpu().numpy(), np.asarray(identity, np.float32))


def as_bytes(pictures: torch.Tensor) -> NDArray[np.uint8]:
    """(T, 3, S, S) in [0, 1] -> (T, S, S, 3) uint8."""
    return np.ascontiguousarray((pictures.permute(0, 2, 3, 1) * 255).round().to(torch.uint8).cpu().numpy())


def face_columns(found: Reenactment) -> dict[str, Any]:
    """FACE_COLUMNS of T frames, NaN or None where there is nothing to tell."""
    csim: Any = [None] * len(found.akd) if found.csim is None else found.csim
    return {"akd": found.akd, "aed": found.aed, "apd": found.apd, "csim": csim, "mouth": found.mouth_made}


def cross_columns(found: Reenactment) -> dict[str, Any]:
    """FACE_COLUMNS of T frames of a pair: those of which CROSS_MEANS are told."""
    return {**face_columns(found), "akd": [None] * len(found.akd)}


def face_means(found: Reenactment) -> dict[str, float | None]:
    """FACE_MEANS, rounded."""
    means = found.means()
    return {name: rounded(means[name]) for name in FACE_MEANS}


def cross_means(found: Reenactment) -> dict[str, float | None]:
    """CROSS_MEANS, rounded."""
    means = face_means(found)
    return {name: means[name] for name in CROSS_MEANS}


def rounded(value: float | None) -> float | None:
    return None if value is None else round(value, DECIMALS)
