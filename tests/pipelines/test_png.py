"""PNG bytes against Pillow, which knows nothing of OpenCV's order of colours."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from pipelines.png import png_bytes

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize(("shape", "mode"), [((5, 7), "L"), ((5, 7, 3), "RGB"), ((5, 7, 4), "RGBA")])
def test_another_reader_finds_the_same_pixels(shape: tuple[int, ...], mode: str) -> None:
    picture = RANDOM.integers(0, 256, shape).astype(np.uint8)
    read = Image.open(io.BytesIO(png_bytes(picture)))
    assert (read.format, read.mode) == ("PNG", mode) and (np.asarray(read) == picture).all()


def test_a_view_of_a_larger_picture_is_written_as_it_looks() -> None:
    picture = RANDOM.integers(0, 256, (10, 12, 3)).astype(np.uint8)[::2, ::-3]
    assert (np.asarray(Image.open(io.BytesIO(png_bytes(picture)))) == picture).all()


def test_compression_changes_the_bytes_and_no_pixel() -> None:
    matte = np.zeros((64, 64), np.uint8)
    matte[10:50, 20:40] = 255
    loose, tight = png_bytes(matte, 0), png_bytes(matte, 9)
    assert len(loose) > 64 * 64 > 10 * len(tight)
    assert all((cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE) == matte).all() for data in (loose, tight))


def test_what_is_no_picture_is_refused_with_its_shape() -> None:
    for array, told in (
        (np.zeros((4, 4, 2), np.uint8), r"\(4, 4, 2\) uint8"),
        (np.zeros((4, 4, 3), np.float32), r"\(4, 4, 3\) float32"),
        (np.zeros((0, 4), np.uint8), r"\(0, 4\) uint8"),
        (np.zeros(4, np.uint8), r"\(4,\) uint8"),
        (np.zeros((4, 1, 4, 3), np.uint8), r"\(4, 1, 4, 3\) uint8"),
    ):
        with pytest.raises(ValueError, match=rf"a PNG is made of .*, this is {told}"):
            png_bytes(array)  # type: ignore[arg-type]
