"""FLAME's landmark embeddings, made up but well formed, against the sums written out point by point."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from avatar_models.heads.flame import FlameFileError
from avatar_models.heads.flame_landmarks import (
    FlameLandmarks,
    contour_rows,
    head_turn,
    read_flame_landmarks,
    read_mediapipe_landmarks,
)

V, F = 60, 100
rng = np.random.default_rng(0)
FACES = torch.tensor(rng.integers(0, V, (F, 3)))


def embedding_arrays(eyes: bool = False, seed: int = 0) -> dict[str, Any]:
    """What landmark_embedding.npy holds, with random places."""
    made = np.random.default_rng(seed)
    sizes = {"static": (53 if eyes else 51,), "dynamic": (79, 17), "full": (1, 70 if eyes else 68)}
    found: dict[str, Any] = {}
    for kind, size in sizes.items():
        found[f"{kind}_lmk_faces_idx"] = made.integers(0, F, size)
        found[f"{kind}_lmk_bary_coords"] = made.dirichlet(np.ones(3), size)
    return found


def write(arrays: dict[str, Any], path: Path, protocol: int = 4) -> Path:
    """As np.save writes a dictionary, in a pickle protocol of choice."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
    path.write_bytes(file.getvalue() + pickle.dumps(np.array(arrays, object), protocol))
    return path


def mediapipe_arrays(seed: int = 1) -> dict[str, np.ndarray]:
    """What mediapipe_landmark_embedding.npz holds."""
    made = np.random.default_rng(seed)
    return {
        "lmk_face_idx": made.integers(0, F, 105), "lmk_b_coords": made.dirichlet(np.ones(3), 105),
        "landmark_indices": made.choice(468, 105, replace=False),
    }  # fmt: skip


def place(vertices: np.ndarray, face: int, weights: np.ndarray) -> np.ndarray:
    return np.sum([weight * vertices[corner] for weight, corner in zip(weights, FACES[face].tolist(), strict=True)], 0)


def a_few_heads() -> tuple[torch.Tensor, torch.Tensor]:
    """Vertices (4, V, 3) and turns (4, 3, 3): ahead, to both sides, and further than the table goes."""
    euler = [[3.0, 0.2, -5.0], [0.0, 21.4, 9.0], [-8.0, -30.7, 4.0], [2.0, 71.0, 0.0]]
    turns = Rotation.from_euler("ZYX", euler, degrees=True).as_matrix()
    return torch.tensor(rng.normal(size=(4, V, 3))), torch.tensor(turns)


@pytest.mark.parametrize("eyes", [False, True])
@pytest.mark.parametrize("protocol", [2, 4])
def test_points_are_the_sums_written_out(eyes: bool, protocol: int, tmp_path: Path) -> None:
    arrays = embedding_arrays(eyes)
    file = write(arrays, tmp_path / "landmark_embedding.npy", protocol)
    landmarks = read_flame_landmarks(file, F)
    vertices, turns = a_few_heads()
    seen = landmarks.seen_points(vertices, FACES, turns)
    full = landmarks.full_points(vertices, FACES)
    assert seen.shape == full.shape == (4, 70 if eyes else 68, 3)
    for b, row in enumerate((0, 21, 39 + 31, 39)):
        for k in range(17):
            at = arrays["dynamic_lmk_faces_idx"][row, k], arrays["dynamic_lmk_bary_coords"][row, k]
            np.testing.assert_allclose(seen[b, k], place(vertices[b].numpy(), *at), atol=1e-12)
        for k in range(53 if eyes else 51):
            at = arrays["static_lmk_faces_idx"][k], arrays["static_lmk_bary_coords"][k]
            np.testing.assert_allclose(seen[b, 17 + k], place(vertices[b].numpy(), *at), atol=1e-12)
        for k in range(70 if eyes else 68):
            at = arrays["full_lmk_faces_idx"][0, k], arrays["full_lmk_bary_coords"][0, k]
            np.testing.assert_allclose(full[b, k], place(vertices[b].numpy(), *at), atol=1e-12)


def test_rows_of_the_contour_follow_the_yaw_alone() -> None:
    yaws = np.array([-80.0, -39.6, -39.0, -38.6, -1.4, -0.6, -0.4, 0.0, 0.4, 0.6, 12.3, 38.6, 45.0])
    rows = [78, 78, 78, 78, 40, 40, 0, 0, 0, 1, 12, 39, 39]
    for pitch, roll in ((0.0, 0.0), (25.0, -15.0)):
        euler = np.stack([np.full_like(yaws, roll), yaws, np.full_like(yaws, pitch)], 1)
        turns = torch.tensor(Rotation.from_euler("ZYX", euler, degrees=True).as_matrix())
        assert contour_rows(turns).tolist() == rows


def test_the_turn_before_a_camera_is_that_of_root_and_neck() -> None:
    root, neck = (Rotation.from_rotvec(v).as_matrix() for v in ([0.1, 0.4, 0.0], [0.0, -0.2, 0.1]))
    view = np.eye(4)
    view[:3, :3] = np.diag([1.0, -1.0, -1.0]) @ root
    found = head_turn(torch.tensor(view)[None], torch.tensor(neck)[None])
    np.testing.assert_allclose(found[0], root @ neck, atol=1e-12)


def test_points_have_right_gradients(tmp_path: Path) -> None:
    landmarks = read_flame_landmarks(write(embedding_arrays(), tmp_path / "x.npy"), F)
    vertices, turns = a_few_heads()
    assert torch.autograd.gradcheck(lambda v: landmarks.seen_points(v, FACES, turns[:2]), vertices[:2].clone().requires_grad_())


def test_tables_may_be_tensors_of_torch(tmp_path: Path) -> None:
    """As in the file that DECA and its followers carry."""
    arrays = embedding_arrays()
    boxed = {name: torch.tensor(array) if name.startswith("dynamic") else array for name, array in arrays.items()}
    boxed["dynamic_lmk_bary_coords"] = torch.tensor(arrays["dynamic_lmk_bary_coords"]).float()
    plain, tensors = (
        read_flame_landmarks(write(of, tmp_path / f"{name}.npy", 2), F) for name, of in (("plain", arrays), ("boxed", boxed))
    )
    assert isinstance(tensors, FlameLandmarks) and torch.equal(plain.dynamic.faces, tensors.dynamic.faces)
    torch.testing.assert_close(plain.dynamic.barycentric, tensors.dynamic.barycentric, atol=1e-6, rtol=0)


def test_mediapipes_points_are_read(tmp_path: Path) -> None:
    arrays = mediapipe_arrays()
    np.savez(tmp_path / "m.npz", **arrays)
    numbers, points = read_mediapipe_landmarks(tmp_path / "m.npz", F)
    vertices, _ = a_few_heads()
    found = points.of(vertices, FACES)
    assert numbers.tolist() == arrays["landmark_indices"].tolist() and found.shape == (4, 105, 3)
    for k in range(105):
        wanted = place(vertices[2].numpy(), arrays["lmk_face_idx"][k], arrays["lmk_b_coords"][k])
        np.testing.assert_allclose(found[2, k], wanted, atol=1e-12)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("static_lmk_faces_idx", np.zeros(50, int), r"static_lmk has the shapes \(50,\)"),
        ("dynamic_lmk_faces_idx", np.full((79, 17), F), "names triangle 100, the head has 100"),
        ("full_lmk_bary_coords", np.full((1, 68, 3), 0.5), "do not add up to 1"),
        ("dynamic_lmk_bary_coords", None, "no dynamic_lmk_bary_coords; it has"),
        ("static_lmk_bary_coords", "words", "is of type"),
    ],
)
def test_what_is_wrong_with_an_embedding_is_named(key: str, value: Any, words: str, tmp_path: Path) -> None:
    arrays = {**embedding_arrays(), key: value}
    file = write({name: array for name, array in arrays.items() if array is not None}, tmp_path / "bad.npy")
    with pytest.raises(FlameFileError, match=words) as error:
        read_flame_landmarks(file, F)
    assert "bad.npy" in str(error.value)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("landmark_indices", np.full(105, 3), "different numbers from 0 to 467"),
        ("landmark_indices", np.arange(104), r"wanted \(104,\)"),
        ("lmk_face_idx", np.full(105, F), "it is of another head"),
    ],
)
def test_what_is_wrong_with_mediapipes_file_is_named(key: str, value: Any, words: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "bad.npz", **{**mediapipe_arrays(), key: value})
    with pytest.raises(FlameFileError, match=words):
        read_mediapipe_landmarks(tmp_path / "bad.npz", F)
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04")
    with pytest.raises(FlameFileError, match="bad.npz"):
        read_mediapipe_landmarks(tmp_path / "bad.npz", F)
