"""Plain text in pictures, with the typeface that comes inside Pillow: the same on every machine, no font file to find."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Color = tuple[int, int, int]


@lru_cache(maxsize=512)
def text_mask(text: str, height: int) -> NDArray[np.uint8]:
    """How much ink each pixel has, (H, W) 0 to 255: one line of letters `height` pixels high, as wide as it needs."""
    font = ImageFont.load_default(height)
    width = max(1, int(np.ceil(font.getlength(text))))
    picture = Image.new("L", (width, round(1.3 * height)))
    ImageDraw.Draw(picture).text((0, 0), text, fill=255, font=font)
    mask = np.asarray(picture)
    mask.flags.writeable = False
    return mask


def text_width(text: str, height: int) -> int:
    return text_mask(text, height).shape[1]


def fitted(text: str, height: int, width: int) -> str:
    """The text, or as much of its start as fits into `width` pixels with an ellipsis behind."""
    if text_width(text, height) <= width:
        return text
    fits = [part for n in range(len(text)) if text_width(part := f"{text[:n]}…", height) <= width]
    return fits[-1] if fits else ""


def write(picture: NDArray[np.uint8], text: str, at: tuple[int, int], height: int, color: Color) -> int:
    """Writes a line into a picture (H, W, 3), its top left corner at (x, y); returns where it ends.

    What does not fit is cut off.
    """
    x, y = at
    mask = text_mask(text, height)
    place = picture[max(0, y) : y + len(mask), max(0, x) : max(0, x + mask.shape[1])]
    ink = mask[max(0, -y) :, max(0, -x) :][: place.shape[0], : place.shape[1], None] / 255.0
    place[:] = (place * (1.0 - ink) + ink * np.asarray(color)).round()
    return x + mask.shape[1]
