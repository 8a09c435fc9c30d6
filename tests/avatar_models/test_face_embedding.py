"""Alignment against scikit-image and OpenCV's own recogniser, and networks read from small ONNX files."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage.transform import SimilarityTransform

from avatar_models.face_embedding import (
    PLACES,
    SIDE,
    FaceNetworkError,
    aligned_face,
    cosine_similarity,
    embeddings,
    five_points,
    load_arcface,
    load_sface,
    similarity,
)
from avatar_models.tracking.quality import LEFT_EYE_CORNERS, RIGHT_EYE_CORNERS
from tests.onnx_files import network_of


def landmarks(five: np.ndarray) -> np.ndarray:
    """(478, 2) with these five points, the others at 0."""
    points = np.zeros((478, 2))
    for corners, eye in ((RIGHT_EYE_CORNERS, five[0]), (LEFT_EYE_CORNERS, five[1])):
        points[list(corners)] = eye + np.array([[-6.0, 1.0], [6.0, -1.0]])
    points[[1, 61, 291]] = five[2:]
    return points


def smooth_picture(size: int = SIDE, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).random((8, 8, 3)).astype(np.float32)
    return (cv2.resize(noise, (size, size), interpolation=cv2.INTER_CUBIC).clip(0, 1) * 255).astype(np.uint8)


def test_similarity_is_scikit_images() -> None:
    rng = np.random.default_rng(1)
    points, places = rng.normal(size=(5, 2)) * 30 + 50, rng.normal(size=(5, 2)) * 30 + 50
    wanted = SimilarityTransform()
    assert wanted.estimate(points, places)
    assert np.allclose(similarity(points, places), wanted.params[:2], atol=1e-9)


def test_a_face_that_is_in_place_is_cut_out_as_it_is() -> None:
    """The template counts from the first pixel's centre, landmarks from its edge: half a pixel between them, and none lost."""
    picture = smooth_picture()
    points = landmarks(PLACES + 0.5)
    assert np.allclose(five_points(points), PLACES + 0.5)
    assert (aligned_face(picture, points) == picture).all()


def test_a_turned_and_larger_face_comes_out_the_same() -> None:
    picture = smooth_picture()
    moved = SimilarityTransform(scale=2.0, rotation=0.4, translation=(120, 30))
    shown = cv2.warpAffine(picture, moved.params[:2], (400, 400))
    found = aligned_face(shown, landmarks(moved(PLACES) + 0.5))
    inner = np.s_[8:-8, 8:-8]
    assert np.abs(found[inner].astype(int) - picture[inner]).max() <= 3


def test_networks_get_the_colours_that_they_were_trained_on(tmp_path: Path) -> None:
    network = network_of(tmp_path / "own.onnx")
    face = smooth_picture()
    colours = face.reshape(-1, 3).mean(0)
    assert np.allclose(load_sface(network)(face), colours, atol=1e-3)
    assert np.allclose(load_arcface(network)(face), (colours - 127.5) / 127.5, atol=1e-5)


def test_sface_is_fed_as_opencv_feeds_it(tmp_path: Path) -> None:
    network = network_of(tmp_path / "own.onnx")
    face = smooth_picture(seed=3)
    wanted = cv2.FaceRecognizerSF.create(str(network), "").feature(face[..., ::-1].copy())  # it takes BGR
    assert np.allclose(load_sface(network)(face), wanted.ravel(), atol=1e-4)


def test_a_file_of_no_use_is_named_with_the_way_out(tmp_path: Path) -> None:
    pointer = tmp_path / "pointer.onnx"
    pointer.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    way_out = "get https://github.com/opencv/opencv_zoo"
    with pytest.raises(FaceNetworkError, match=rf"pointer.onnx: not an ONNX network for faces.*{way_out}"):
        load_sface(pointer)
    with pytest.raises(FaceNetworkError, match=rf"unknown.onnx: not an ONNX network for faces.*{way_out}"):
        load_sface(network_of(tmp_path / "unknown.onnx", b"NoSuchOperator"))
    with pytest.raises(FaceNetworkError, match=rf"mean.onnx: gives 1 number for a face, no direction; {way_out}"):
        load_sface(network_of(tmp_path / "mean.onnx", b"ReduceMean"))
    with pytest.raises(FileNotFoundError):
        load_sface(tmp_path / "nowhere.onnx")


def test_a_face_that_is_not_aligned_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\(112, 112, 3\), this is \(96, 112, 3\)"):
        load_sface(network_of(tmp_path / "own.onnx"))(np.zeros((96, SIDE, 3), np.uint8))


def test_vectors_are_of_length_1_and_pictures_without_a_face_have_none() -> None:
    pictures, points = np.stack([smooth_picture(seed=s) for s in range(3)]), np.stack([landmarks(PLACES + 0.5)] * 3)
    points[1] = np.nan
    vectors = embeddings(lambda face: face.reshape(-1, 3).mean(0).astype(np.float32), pictures, points)
    assert np.isnan(vectors[1]).all() and np.allclose(np.linalg.norm(vectors[[0, 2]], axis=1), 1)
    assert np.allclose(vectors[0], pictures[0].mean((0, 1)) / np.linalg.norm(pictures[0].mean((0, 1))), atol=1e-6)
    assert np.isnan(
        cosine_similarity(embeddings(lambda face: vectors[0].astype(np.float32), pictures[1:2], points[1:2]), vectors)
    ).all()


def test_cosines_of_known_vectors() -> None:
    a, half = np.array([1.0, 0.0]), np.array([0.5, np.sqrt(0.75)])
    assert np.allclose(cosine_similarity(np.stack([a, half, -a]), a[None]), [1, 0.5, -1])
    assert np.allclose(cosine_similarity(np.stack([a, half]), np.stack([half, half])), [0.5, 1])
