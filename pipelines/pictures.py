"""A folder of numbered pictures as a video: the same facts and the same decoder interface as for a file.

Pictures are named PREFIX{number}.jpg or .png, the prefix the same for all: 7.jpg, 0007.png, frame_0007.jpg. They have no times;
25 a second are assumed, and a number that is missing is a frame that is missing.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.video_facts import MAX_PIXELS, ProbeError, VideoFacts

RATE = 25.0
"""Pictures a second."""
NAME = re.compile(r"^(?P<prefix>.*?)(?P<number>\d{1,15})$", re.DOTALL)
SUFFIXES = (".jpg", ".jpeg", ".png")


def numbered_pictures(folder: Path) -> list[tuple[int, Path]]:
    """(number, path) of a folder's pictures by rising number; files of other kinds are passed over.

    Raises ProbeError not_a_file where there is none, unreadable, and ambiguous_pictures where prefixes differ or a number
    comes twice: nobody could say which frame is which.
    """
    found: dict[int, Path] = {}
    prefixes: dict[str, Path] = {}
    try:
        files = sorted(folder.iterdir())
    except OSError as error:
        raise ProbeError("unreadable", f"cannot be opened: {error.strerror}") from None
    for path in files:
        name = NAME.match(path.stem)
        if path.suffix.lower() not in SUFFIXES or name is None:
            continue
        number = int(name["number"])
        prefixes.setdefault(name["prefix"], path)
        if number in found:
            raise ProbeError("ambiguous_pictures", f"{found[number].name} and {path.name} have the same number; take one away")
        found[number] = path
    if len(prefixes) > 1:
        first, second = list(prefixes.values())[:2]
        raise ProbeError(
            "ambiguous_pictures", f"{first.name} and {second.name} start differently; put them in folders of their own"
        )
    if not found:
        raise ProbeError("not_a_file", "is a folder without numbered pictures (7.jpg, 0007.png, frame_0007.jpg)")
    return sorted(found.items())


def probe_pictures(folder: Path) -> VideoFacts:
    """The facts of a folder: a frame for each picture, at the time that its number gives. Decodes the first one that it can.

    Raises ProbeError as :func:`numbered_pictures`, and undecodable, too_large.
    """
    pictures = numbered_pictures(folder)
    numbers = np.array([number for number, _ in pictures], np.int64)
    first = next((image for _, path in pictures if (image := decode_picture(path)) is not None), None)
    if first is None:
        raise ProbeError("undecodable", "not one of its pictures can be decoded")
    height, width = first.shape[:2]
    if width * height > MAX_PIXELS:
        raise ProbeError("too_large", f"its pictures have {width * height / 1e6:.0f} million pixels")
    codec = pictures[0][1].suffix.lower().lstrip(".")
    return VideoFacts((numbers - numbers[0]) / RATE, 0, 0.0, width, height, 0, codec, False)


def decode_picture(path: Path) -> NDArray[np.uint8] | None:
    """(H, W, 3) RGB, turned upright as its EXIF entry says; None for what is no picture."""
    try:
        data = np.frombuffer(path.read_bytes(), np.uint8)
        image = cv2.imdecode(data, cv2.IMREAD_COLOR) if len(data) else None
    except (OSError, cv2.error):
        return None
    return None if image is None else np.ascontiguousarray(image[..., ::-1])  # type: ignore[return-value]


class PicturesDecoder:
    """Decodes a folder's pictures one by one; see :class:`pipelines.decode.Decoder`."""

    name = "pictures"

    def __init__(self, folder: Path, facts: VideoFacts) -> None:
        self.facts = facts
        self.paths = [path for _, path in numbered_pictures(folder)]

    def frames(self, indices: Sequence[int]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Yields (index, picture); pictures that cannot be decoded or that have another size are left out."""
        for index in indices:
            picture = decode_picture(self.paths[index])
            if picture is not None and picture.shape[:2] == (self.facts.height, self.facts.width):
                yield index, picture


def pictures_digest(folder: Path) -> str:
    """sha256 over the names and bytes of a folder's pictures. Raises ProbeError, PermissionError."""
    found = hashlib.sha256()
    for _, path in numbered_pictures(folder):
        with path.open("rb") as file:
            found.update(f"{path.name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode(errors="surrogateescape"))
    return found.hexdigest()
