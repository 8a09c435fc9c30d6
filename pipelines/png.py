"""A picture as the bytes of a PNG file."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

COLOURS = ((), (3,), (4,))
"""What may follow the height and the width in a picture's shape."""


def png_bytes(picture: NDArray[np.uint8], compression: int | None = None) -> bytes:
    """A picture (H, W) gray, (H, W, 3) RGB or (H, W, 4) RGBA, uint8, without loss; the same pixels give the same bytes.

    `compression` is zlib's level, 0 to 9; None leaves it to OpenCV. Raises ValueError for what is no such picture.
    """
    shape = picture.shape
    if picture.dtype != np.uint8 or len(shape) < 2 or shape[2:] not in COLOURS or 0 in shape:
        raise ValueError(f"a PNG is made of (H, W), (H, W, 3) or (H, W, 4) uint8, this is {shape} {picture.dtype}")
    if len(shape) == 3:
        picture = picture[..., [2, 1, 0, *range(3, shape[2])]]  # OpenCV's order of colours
    options = [] if compression is None else [cv2.IMWRITE_PNG_COMPRESSION, compression]
    return bytes(cv2.imencode(".png", picture, options)[1].tobytes())
