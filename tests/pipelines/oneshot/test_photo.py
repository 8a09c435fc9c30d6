"""Which photos can become a person. Tests on real photos skip where they are not."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from pipelines.oneshot.photo import PhotoError, expect_one_face, tracked_photo, with_crops_of
from tests.pipelines.test_tracked_file import params_of


def picture(shared: Path) -> np.ndarray:
    """A photo of one face, 183 pixels wide (466, 514, 3)."""
    return cv2.imread(str(shared / "photos" / "art_8.jpg"))


def test_what_is_no_picture_is_told(tmp_path: Path) -> None:
    with pytest.raises(PhotoError, match="gone.jpg: no such file"):
        expect_one_face(tmp_path / "gone.jpg")
    (tmp_path / "a.jpg").write_bytes(b"text")
    with pytest.raises(PhotoError, match="a.jpg: cannot be read as a picture"):
        expect_one_face(tmp_path / "a.jpg")


def test_a_picture_without_a_face_is_told(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.full((300, 300, 3), 127, np.uint8))
    with pytest.raises(PhotoError, match="a.png: no face is found"):
        expect_one_face(tmp_path / "a.png")


def test_of_two_faces_one_has_to_be_chosen(shared: Path, tmp_path: Path) -> None:
    one = picture(shared)
    cv2.imwrite(str(tmp_path / "two.png"), np.concatenate([one, one], 1))
    with pytest.raises(PhotoError, match="two.png: shows 2 faces; crop it"):
        expect_one_face(tmp_path / "two.png")


def test_a_tiny_face_is_told_with_its_size(shared: Path, tmp_path: Path) -> None:
    canvas = np.full((400, 400, 3), 200, np.uint8)
    small = cv2.resize(picture(shared), None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    canvas[100 : 100 + small.shape[0], 120 : 120 + small.shape[1]] = small
    cv2.imwrite(str(tmp_path / "far.png"), canvas)
    with pytest.raises(PhotoError, match=r"far.png: the face is [345]\d pixels wide, 64 are needed"):
        expect_one_face(tmp_path / "far.png")


def test_a_photos_crop_is_as_large_as_the_models_picture(tmp_path: Path) -> None:
    params = params_of(tmp_path)
    side = params.preprocess.crop.side
    assert with_crops_of(params, side + 64).preprocess.crop.side == side + 64
    assert with_crops_of(params, side - 8) == params


def test_a_photo_that_is_stored_turned_is_seen_upright(shared: Path, tmp_path: Path) -> None:
    upright = Image.fromarray(picture(shared)[..., ::-1])
    upright.save(tmp_path / "upright.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.jpg", quality=100, subsampling=0, exif=exif)
    params = params_of(tmp_path)
    first, second = (tracked_photo(tmp_path / name, params, 64) for name in ("upright.png", "turned.jpg"))
    assert np.abs(first.crop(0).image.astype(int) - second.crop(0).image).mean() < 3  # of 255: JPEG's losses
    np.testing.assert_allclose(first.tracks.viewmat, second.tracks.viewmat, atol=0.03)
