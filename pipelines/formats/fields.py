"""Values out of files that others wrote: each is checked, and an error names the file, the place and the value."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray


class FormatError(ValueError):
    """A folder or a clip is not what the layout asks for; the message names the file, the value and the way out."""


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object. Raises FormatError."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FormatError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise FormatError(f"{path}: cannot be read ({error})") from None
    except (json.JSONDecodeError, RecursionError) as error:
        raise FormatError(f"{path}: not JSON ({error})") from None
    if not isinstance(found, dict):
        raise FormatError(f"{path}: holds a {type(found).__name__}, an object {{...}} was expected")
    return found


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of an npz file; nothing pickled is read. Raises FormatError."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            if isinstance(stored, np.ndarray):
                raise FormatError(f"{path}: holds one array without a name, an npz was expected")
            return dict(stored)
    except FileNotFoundError:
        raise FormatError(f"{path}: no such file") from None
    except (OSError, BadZipFile, ValueError, EOFError) as error:
        raise error if isinstance(error, FormatError) else FormatError(f"{path}: not an npz of arrays ({error})") from None


def present(place: str, found: Mapping[str, Any], key: str) -> Any:
    """The value under a key. Raises FormatError that names the nearest key there is."""
    if key not in found:
        near = difflib.get_close_matches(key, found, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; it has {', '.join(map(str, found)) or 'nothing'}"
        raise FormatError(f"{place}: no {key!r}{hint}")
    return found[key]


def array(place: str, found: Mapping[str, Any], key: str, shape: tuple[int | None, ...]) -> NDArray[np.float64]:
    """The numbers under a key, all finite, of a shape in which None is any length. Raises FormatError."""
    value = present(place, found, key)
    try:
        numbers = np.asarray(value, np.float64)
    except (TypeError, ValueError, OverflowError):
        raise FormatError(f"{place}: {key!r} = {shortly(value)} holds something that is no number") from None
    fits = numbers.ndim == len(shape) and all(wanted in (None, size) for wanted, size in zip(shape, numbers.shape, strict=True))
    if not fits:
        wanted_shape = " x ".join("any" if size is None else str(size) for size in shape) or "one number"
        raise FormatError(f"{place}: {key!r} has the shape {numbers.shape}, {wanted_shape} was expected")
    if not np.isfinite(numbers).all():
        raise FormatError(f"{place}: {key!r} has values that are not finite")
    return numbers


def number(place: str, found: Mapping[str, Any], key: str, *, positive: bool = False) -> float:
    """One finite number. Raises FormatError."""
    value = float(array(place, found, key, ()))
    if positive and value <= 0:
        raise FormatError(f"{place}: {key!r} = {value:g}, a number above 0 was expected")
    return value


def rigid(place: str, found: Mapping[str, Any], key: str) -> NDArray[np.float64]:
    """A 4 x 4 matrix that turns and moves, and does neither scale nor mirror. Raises FormatError."""
    matrix = array(place, found, key, (4, 4))
    turn = matrix[:3, :3]
    if (
        np.abs(turn @ turn.T - np.eye(3)).max() > 1e-3
        or np.linalg.det(turn) < 0
        or np.abs(matrix[3] - [0, 0, 0, 1]).max() > 1e-6
    ):
        raise FormatError(f"{place}: {key!r} = {shortly(matrix.tolist())} is not a rotation with a translation")
    return matrix


def frame_list(path: Path, found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The `frames` of a transforms.json: a list of objects, at least one. Raises FormatError."""
    frames = present(str(path), found, "frames")
    if not isinstance(frames, list) or not frames or not all(isinstance(frame, dict) for frame in frames):
        raise FormatError(f"{path}: 'frames' = {shortly(frames)}, a list of at least one object {{...}} was expected")
    return frames


def text(place: str, found: Mapping[str, Any], key: str) -> str:
    """A string under a key. Raises FormatError."""
    value = present(place, found, key)
    if not isinstance(value, str):
        raise FormatError(f"{place}: {key!r} = {shortly(value)}, text was expected")
    return value


def whole(place: str, found: Mapping[str, Any], key: str, default: int) -> int:
    """A whole number of 63 bits under a key, or the default where there is none. Raises FormatError."""
    value = found.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) >= 2**63:
        raise FormatError(f"{place}: {key!r} = {shortly(value)}, a whole number was expected")
    return value


def picture_names(path: Path) -> set[str]:
    """The file_path of each frame of a transforms file; of one that is not there, none. Raises FormatError."""
    if not path.exists():
        return set()
    frames = read_json(path).get("frames")
    return {str(frame.get("file_path")) for frame in frames if isinstance(frame, dict)} if isinstance(frames, list) else set()


def shortly(value: Any) -> str:
    """A value as it stands in a message, cut where it is long."""
    words = repr(value)
    return words if len(words) <= 80 else f"{words[:77]}..."
