"""What evaluations write of faces: bytes for the detector, columns and means with room for what is not there."""

from __future__ import annotations

import numpy as np
import torch

from avatar_models.cameras import Camera
from avatar_models.reenactment import Reenactment
from pipelines.faces import FACE_COLUMNS, FACE_MEANS, as_bytes, cross_columns, cross_means, face_columns, face_means, footage_of

NAN = np.nan


def figures(csim: np.ndarray | None = None) -> Reenactment:
    """Of four frames; in the third no face is found in the made picture."""
    there = np.array([True, True, False, True])
    values = np.array([1.0, 2.0, NAN, 3.00006])
    mouth = np.array([0.1, 0.2, 0.7, 0.3])
    return Reenactment(
        size=64, akd=values, aed=values / 10, apd=values / 100, mouth_made=np.where(there, mouth, NAN), mouth_wanted=mouth,
        found_made=there, found_wanted=np.ones(4, bool), csim=csim,
    )  # fmt: skip


def test_means_are_over_the_frames_with_a_face_and_rounded() -> None:
    assert face_means(figures()) == {
        "akd": 2.0, "aed": 0.2, "apd": 0.02, "csim": None, "mouth_correlation": 1.0, "no_face_made": 1.0,
    }  # fmt: skip
    assert tuple(face_means(figures())) == FACE_MEANS
    assert face_means(figures(np.array([0.5, 0.25, NAN, 0.0])))["csim"] == 0.25


def test_columns_have_a_value_for_each_frame_and_none_of_what_is_off() -> None:
    columns = face_columns(figures())
    assert tuple(columns) == FACE_COLUMNS and all(len(values) == 4 for values in columns.values())
    assert columns["csim"] == [None] * 4 and np.isnan(columns["mouth"][2]) and columns["mouth"][3] == 0.3


def test_of_a_pair_the_distance_of_two_faces_landmarks_is_not_told() -> None:
    found = figures()
    assert set(face_means(found)) - set(cross_means(found)) == {"akd"} and cross_means(found)["aed"] == 0.2
    columns, own = cross_columns(found), face_columns(found)
    assert columns["akd"] == [None] * 4 and all(columns[name] is own[name] for name in ("aed", "apd", "mouth"))


def test_pictures_come_to_the_tracker_as_bytes_with_their_cameras() -> None:
    shown = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    K = torch.tensor([[40.0, 0, 4], [0, 40.0, 4], [0, 0, 1]]).repeat(2, 1, 1)
    made = footage_of(shown, Camera(K, torch.eye(4).repeat(2, 1, 1), 8, 8), [0.5, -1.0])
    assert np.abs(made.pictures / 255 - shown.permute(0, 2, 3, 1).numpy()).max() <= 0.5 / 255 + 1e-6
    assert made.pictures.flags.c_contiguous and made.K.dtype == np.float64 and (K.numpy() == made.K).all()
    assert made.identity.tolist() == [0.5, -1.0]
    assert as_bytes(torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1).expand(2, 3, 1, 1)).ravel().tolist() == [
        0,
        0,
        0,
        255,
        255,
        255,
    ]
