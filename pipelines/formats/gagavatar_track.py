"""The layout of GAGAvatar_track, on which GAGAvatar is trained and by which it is driven.

    img_lmdb/       LMDB: key {video}_{frame} -> JPEG or PNG, 512 x 512 RGB, the person over black
    optim.pkl       pickle: key -> bbox (4,) x0 y0 x1 y1 of the head over 512, shapecode (I,), expcode (E,), posecode (6,) zeros
                    and jaw, eyecode (6,) left and right, transform_matrix (3, 4) [R | T], float32
    smoothed.pkl    the same, smoothed over time: what drives an avatar
    dataset.json    {"train": [key], "val": [key], "test": [key]}
    headwater.json  written by this project: which head the coefficients belong to, and the frames' places in the source

The camera is PyTorch3D's (x left, y up, z forward, row vectors): X_cam = X R + T for X = 5 x the head's vertices in metres,
with the focal length 12 of half a picture and the principal point in its middle, always. To ours: with D = diag(-1, -1, 1),
R' = D R^T, T' = D T / 5, f = 12 * 256 pixels. A clip that was seen through another lens is fitted anew: the pose whose
projection through this lens lies nearest to ours. There is no neck; its turn goes into the pose.

The coefficients are FLAME's. A track of another head keeps its own under the same keys, which GAGAvatar cannot pose.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import lmdb
import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate

from avatar_models.cameras import Camera, project
from avatar_models.heads.interface import Head
from avatar_models.heads.skinning import NECK
from avatar_models.pickles import PickleRefused, load_pickle
from avatar_models.rotations import axis_angle_to_matrix
from pipelines.atomic import atomic_folder
from pipelines.formats.clip import Array, TrackedClip, joints, over, surface
from pipelines.formats.fields import FormatError, array, present, read_json, shortly
from pipelines.formats.flame_codes import Meaning, entry, read_entry, to_codes
from pipelines.frames import StoredFrame

SIZE = 512
FOCAL = 12.0 * SIZE / 2
"""Pixels."""
SCALE = 5.0
"""The head's vertices in this layout over metres."""
FLIP = np.diag([-1.0, -1.0, 1.0])
CROP_SCALE = 1.65
BOX_SHARE, POSE_SHARE, EYE_SHARE = 0.03, 0.6, 0.7
"""Share of the present frame in a moving average: of the head's box, of rotation and translation, of the eyes."""
JPEG_QUALITY = 95
VAL_FRAMES = 20
FIT_POINTS = 300
ROOM_PER_PICTURE, LEAST_ROOM = 2 * 1024**2, 64 * 1024**2
"""Bytes: LMDB is told how large it may grow."""
RECORDS, SMOOTHED, SPLITS, PICTURES, OWN = "optim.pkl", "smoothed.pkl", "dataset.json", "img_lmdb", "headwater.json"
LENS = np.array([[FOCAL, 0, SIZE / 2], [0, FOCAL, SIZE / 2], [0, 0, 1.0]])
"""K of every picture."""


def to_viewmat(transform: Array) -> Array:
    """The layout's [R | T] (N, 3, 4) as viewmats (N, 4, 4) of OpenCV cameras in metres, to go with :data:`LENS`."""
    found = np.tile(np.eye(4), (len(transform), 1, 1))
    found[:, :3, :3] = FLIP @ transform[:, :, :3].swapaxes(1, 2)
    found[:, :3, 3] = transform[:, :, 3] @ FLIP / SCALE
    return found


def to_transform(viewmat: Array) -> Array:
    """Viewmats (N, 4, 4) that go with :data:`LENS` as the layout's [R | T] (N, 3, 4)."""
    turn = (FLIP @ viewmat[:, :3, :3]).swapaxes(1, 2)
    return np.concatenate([turn, (viewmat[:, :3, 3:].swapaxes(1, 2) @ FLIP * SCALE).swapaxes(1, 2)], 2)


def through_lens(points: Array, pixels: Array, viewmat: Array, K: Array) -> Array:
    """The pose (4, 4) whose projection through :data:`LENS` lies nearest to pixels (P, 2) of points (P, 3).

    It starts from viewmat (4, 4) of a camera K (3, 3), moved so far away that the head looks as large.
    """
    start = viewmat.copy()
    middle = viewmat[:3, :3] @ points.mean(0) + viewmat[:3, 3]
    depth = middle[2] * FOCAL / np.sqrt(K[0, 0] * K[1, 1])
    x, y, _ = K @ (middle / middle[2])
    start[:3, 3] += [(x - SIZE / 2) * depth / FOCAL - middle[0], (y - SIZE / 2) * depth / FOCAL - middle[1], depth - middle[2]]
    turn, move = cv2.solvePnPRefineLM(points, pixels, LENS, None, cv2.Rodrigues(start[:3, :3])[0], start[:3, 3:].copy())
    found = np.eye(4)
    found[:3, :3], found[:3, 3] = cv2.Rodrigues(turn)[0], move[:, 0]
    return found


def moving_average(values: Array, share: float) -> Array:
    """s_0 = x_0, s_t = share x_t + (1 - share) s_(t-1), over (N, ...)."""
    found = values.copy()
    for row in range(1, len(found)):
        found[row] = share * values[row] + (1 - share) * found[row - 1]
    return found


def crop_windows(boxes: Array, video: bool) -> NDArray[np.int64]:
    """Windows (N, 4) x0 y0 x1 y1 in whole pixels around heads' boxes (N, 4): squares of side 1.65 sqrt(w h).

    Boxes of a video are smoothed over time. Corners are cut to whole pixels one by one, so that a window may be a pixel
    wider than high. Raises ValueError for a box without area.
    """
    if (boxes[:, 2:] <= boxes[:, :2]).any():
        row = int((boxes[:, 2:] <= boxes[:, :2]).any(1).argmax())
        raise ValueError(f"the box {boxes[row].tolist()} of frame {row} has no area")
    smooth = moving_average(boxes, BOX_SHARE) if video else boxes
    middle = (smooth[:, :2] + smooth[:, 2:]) / 2
    half = CROP_SCALE * np.sqrt((smooth[:, 2:] - smooth[:, :2]).prod(1, keepdims=True)) / 2
    return np.trunc(np.concatenate([middle - half, middle + half], 1)).astype(np.int64)


def cut(image: NDArray[np.uint8], window: NDArray[np.int64]) -> NDArray[np.uint8]:
    """A window of a picture (H, W, 3) at 512 x 512, zero outside of the picture, resampled without aliasing."""
    x0, y0, x1, y1 = window.tolist()
    height, width = image.shape[:2]
    left, top, right, bottom = max(-x0, 0), max(-y0, 0), max(x1 - width, 0), max(y1 - height, 0)
    padded = np.pad(image, ((top, bottom), (left, right), (0, 0)))
    piece = torch.from_numpy(padded[y0 + top : y1 + top, x0 + left : x1 + left].copy()).permute(2, 0, 1)[None].float()
    found = interpolate(piece, (SIZE, SIZE), mode="bilinear", align_corners=False, antialias=True)
    return np.asarray(found[0].permute(1, 2, 0).round().clamp(0, 255).to(torch.uint8).numpy())


def through_window(camera: Camera, windows: NDArray[np.int64]) -> Camera:
    """N cameras as they see windows (N, 4) resampled to 512 x 512."""
    corner, side = torch.from_numpy(windows[:, :2]).double(), torch.from_numpy(windows[:, 2:] - windows[:, :2]).double()
    K = camera.K.clone()
    K[:, :2, 2] -= corner
    K[:, :2] *= (SIZE / side)[..., None]
    return Camera(K, camera.viewmat, SIZE, SIZE)


def write_gagavatar_track(folder: Path, clip: TrackedClip, pictures: Iterable[StoredFrame], head: Head) -> float:
    """Writes a new folder, whole or not at all; `pictures` are the clip's N frames in order.

    The head's box is that of its surface above the neck; the crop rule cuts around it, and what it reaches outside of the
    stored pictures is black (a larger preprocess.crop.scale stores more). Returns how far apart the fixed lens and ours see
    the head: the median over all frames and points, in pixels of 512.

    The last part of a clip is `test`; `val` is the last 20 frames of it. Raises FormatError, FileExistsError, DiskFull.
    """
    codes = to_codes(clip)
    video = clip.clip_id.replace("_", "-")  # the layout's readers cut a key at its underscores
    keys = [f"{video}_{row}" for row in range(len(clip))]
    above = np.flatnonzero((head.rig.template[:, 1] > head.rig.joints[NECK, 1]).numpy())
    pixels = np.stack([_seen(surface(head, clip, row)[above], clip.camera[row : row + 1]) for row in range(len(clip))])
    windows = crop_windows(np.concatenate([pixels.min(1), pixels.max(1)], 1), video=True)
    camera = through_window(clip.camera, windows)
    pixels = (pixels - windows[:, None, :2]) * (SIZE / (windows[:, None, 2:] - windows[:, None, :2]))
    views, apart = _refitted(clip, head, above, pixels, camera)
    records = {
        key: {
            "bbox": np.clip(np.concatenate([pixels[row].min(0), pixels[row].max(0)]) / SIZE, 0, 1),
            "shapecode": codes.identity,
            "expcode": codes.expression[row],
            "posecode": np.concatenate([np.zeros(3), clip.jaw[row]]),
            "eyecode": clip.eyes[row],
            "transform_matrix": transform,
            **({} if codes.eyelids is None else {"eyelids": codes.eyelids[row]}),
        }
        for row, (key, transform) in enumerate(zip(keys, to_transform(views), strict=True))
    }
    test = [key for key, held_out in zip(keys, clip.held_out, strict=True) if held_out]
    splits = {"train": [key for key in keys if key not in set(test)], "val": test[-VAL_FRAMES:], "test": test}
    with atomic_folder(folder) as new:
        (new / PICTURES).mkdir()
        count = _write_pictures(new / PICTURES, keys, pictures, windows)
        if count != len(keys):
            raise FormatError(f"{clip.clip_id}: {count} pictures for {len(keys)} tracked frames")
        _write_records(new / RECORDS, records)
        _write_records(new / SMOOTHED, smoothed(records))
        (new / SPLITS).write_text(json.dumps(splits, indent=1) + "\n")
        own = {"headwater": entry(clip), "frames": dict(zip(keys, clip.frames.tolist(), strict=True))}
        (new / OWN).write_text(json.dumps(own, indent=1) + "\n")
    return apart


def _seen(points: Array, camera: Camera) -> Array:
    return np.asarray(project(torch.from_numpy(points)[None], camera)[0].numpy())


def _refitted(clip: TrackedClip, head: Head, above: NDArray[np.int64], pixels: Array, camera: Camera) -> tuple[Array, float]:
    """Viewmats (N, 4, 4) for :data:`LENS` and the median distance in pixels; pixels (N, P, 2) of the vertices `above`."""
    chosen = np.linspace(0, len(above) - 1, min(FIT_POINTS, len(above))).round().astype(int)
    still = replace(clip, neck=np.zeros_like(clip.neck))
    turns = axis_angle_to_matrix(torch.from_numpy(clip.neck)).numpy()
    pivots = joints(head, clip)[:, NECK]
    found, apart = [], []
    for row in range(len(clip)):
        neck = np.eye(4)
        neck[:3, :3], neck[:3, 3] = turns[row], pivots[row] - turns[row] @ pivots[row]
        points, seen = surface(head, still, row)[above][chosen], pixels[row][chosen]
        view = through_lens(points, seen, clip.viewmat[row] @ neck, camera.K[row].numpy())
        lens = Camera(torch.from_numpy(LENS)[None], torch.from_numpy(view)[None], SIZE, SIZE)
        found.append(view)
        apart.append(np.linalg.norm(_seen(points, lens) - seen, axis=1))
    return np.stack(found), float(np.median(apart))


def smoothed(records: dict[str, dict[str, Array]]) -> dict[str, dict[str, Array]]:
    """The records of one video, in order, with pose and eyes as moving averages; rotations by their first two rows."""
    transforms = np.stack([record["transform_matrix"] for record in records.values()])
    eyes = moving_average(np.stack([record["eyecode"] for record in records.values()]), EYE_SHARE)
    rows, move = moving_average(transforms[:, :2, :3], POSE_SHARE), moving_average(transforms[:, :, 3:], POSE_SHARE)
    first = rows[:, 0] / np.linalg.norm(rows[:, 0], axis=1, keepdims=True)
    second = rows[:, 1] - (first * rows[:, 1]).sum(1, keepdims=True) * first
    second /= np.linalg.norm(second, axis=1, keepdims=True)
    found = np.concatenate([np.stack([first, second, np.cross(first, second)], 1), move], 2)
    return {
        key: {**record, "transform_matrix": found[row], "eyecode": eyes[row]}
        for row, (key, record) in enumerate(records.items())
    }


def _write_records(path: Path, records: dict[str, dict[str, Array]]) -> None:
    plain = {key: {name: value.astype(np.float32) for name, value in record.items()} for key, record in records.items()}
    path.write_bytes(pickle.dumps(plain, protocol=4))


def _write_pictures(folder: Path, keys: list[str], pictures: Iterable[StoredFrame], windows: NDArray[np.int64]) -> int:
    """Writes a folder's LMDB and returns how many pictures there were. Raises FormatError."""
    count = 0
    room = max(LEAST_ROOM, ROOM_PER_PICTURE * len(keys))
    try:
        with lmdb.open(str(folder), map_size=room) as store, store.begin(write=True) as writer:
            for key, picture, window in zip(keys, pictures, windows, strict=False):
                image = cut(over(picture, 0), window)
                encoded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
                writer.put(key.encode(), encoded.tobytes())
                count += 1
    except lmdb.Error as error:
        raise FormatError(f"{folder}: the LMDB cannot be written ({error}); is there room for {room / 1e6:.0f} MB?") from None
    return count


class PictureStore:
    """An img_lmdb folder, read only; use it in a `with` block."""

    def __init__(self, folder: Path) -> None:
        """Raises FormatError where the folder is no LMDB."""
        self.folder = folder
        if not (folder / "data.mdb").is_file():
            raise FormatError(f"{folder}: no data.mdb in it, so it is not an LMDB")
        try:
            self._store = lmdb.open(str(folder), readonly=True, lock=False, readahead=False, create=False)
        except lmdb.Error as error:
            raise FormatError(f"{folder}: not an LMDB that can be read ({error})") from None

    def __enter__(self) -> PictureStore:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._store.close()

    def keys(self) -> list[str]:
        """All keys, in the order of their bytes."""
        with self._store.begin() as reader:
            return [bytes(key).decode(errors="backslashreplace") for key in reader.cursor().iternext(values=False)]

    def read(self, key: str) -> NDArray[np.uint8]:
        """One picture (H, W, 3) RGB. Raises FormatError for an unknown key, and for what is no picture."""
        with self._store.begin() as reader:
            data = reader.get(key.encode())
        if data is None:
            raise FormatError(f"{self.folder}: no picture {key!r}; it has {shortly(self.keys())}")
        if data[:2] == b"PK":
            raise FormatError(f"{self.folder}: {key!r} was stored by torch.save, only JPEG and PNG are read")
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        if image is None:
            raise FormatError(f"{self.folder}: {key!r} is neither a JPEG nor a PNG that can be decoded")
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)  # type: ignore[return-value]


@dataclass(frozen=True)
class GagavatarTracks:
    """The records of N frames of any number of videos. Conventions as in the tables."""

    keys: list[str]
    boxes: Array  # (N, 4) x0 y0 x1 y1 of the head in pixels
    viewmat: Array  # (N, 4, 4), to go with LENS
    expression: Array  # (N, E)
    jaw: Array  # (N, 3)
    eyes: Array  # (N, 6)
    identity: Array  # (N, I); frames that were fitted one by one differ
    frames: NDArray[np.int64]  # (N,) index in the source, or the key's last number where nobody says
    splits: dict[str, list[str]]  # train, val and test, where there is a dataset.json
    meaning: Meaning

    @property
    def camera(self) -> Camera:
        """The N cameras."""
        K = torch.from_numpy(LENS).expand(len(self.keys), 3, 3)
        return Camera(K, torch.from_numpy(self.viewmat), SIZE, SIZE)

    def videos(self) -> dict[str, list[int]]:
        """Rows of each video by its name, in the order of the keys' last number."""
        found: dict[str, list[int]] = {}
        for row in sorted(range(len(self.keys)), key=lambda row: _parts(self.keys[row])):
            found.setdefault(_parts(self.keys[row])[0], []).append(row)
        return found

    def video(self, name: str) -> TrackedClip:
        """One video as a clip; its identity is the mean over its frames, as the layout's own tracker has it for a video."""
        videos = self.videos()
        if name not in videos:
            raise FormatError(f"no video {name!r}; there are {shortly(list(videos))}")
        rows = videos[name]
        judged = {key for part in ("val", "test") for key in self.splits.get(part, [])}
        return TrackedClip(
            self.meaning.clip_id or name, self.meaning.head, SIZE, SIZE, self.frames[rows],
            np.array([self.keys[row] in judged for row in rows]), np.tile(LENS, (len(rows), 1, 1)), self.viewmat[rows],
            self.expression[rows], np.zeros((len(rows), 3)), self.jaw[rows], self.eyes[rows], self.identity[rows].mean(0),
            self.meaning.expression_names, self.meaning.identity_names,
        )  # fmt: skip


def _parts(key: str) -> tuple[str, int]:
    """(video, frame) of a key; a key without a number is a video of one frame."""
    video, _, frame = key.rpartition("_")
    return (video, int(frame)) if video and frame.isdecimal() else (key, 0)


def read_gagavatar_track(folder: Path, records: str = RECORDS) -> GagavatarTracks:
    """Reads optim.pkl or smoothed.pkl with dataset.json where there is one; pictures are not opened (:class:`PictureStore`).

    Raises FormatError.
    """
    path = folder / records
    if not path.exists():
        there = sorted(file.name for file in folder.glob("*.pkl"))
        raise FormatError(f"{path}: no such file; {folder} has {', '.join(there) or 'no .pkl'}")
    try:
        stored = load_pickle(path)
    except PickleRefused as error:
        raise FormatError(str(error)) from None
    if not isinstance(stored, dict) or not stored or not all(isinstance(record, dict) for record in stored.values()):
        raise FormatError(f"{path}: holds {shortly(stored)}, a dictionary of records by frame was expected")
    own = read_json(folder / OWN) if (folder / OWN).exists() else {}
    meaning = read_entry(str(folder / OWN), own, "")
    rows = [_read_record(f"{path}: {key!r}", record) for key, record in stored.items()]
    for name in rows[0]:
        shapes = {row[name].shape for row in rows if name in row}
        if len(shapes) > 1 or not all(name in row for row in rows):
            raise FormatError(f"{path}: its records differ in the shape of {name!r}: {sorted(shapes)}")
    table = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    keys = [str(key) for key in stored]
    numbers = own.get("frames")
    frames = [numbers.get(key) if isinstance(numbers, dict) else _parts(key)[1] for key in keys]
    if not all(isinstance(frame, int) for frame in frames):
        raise FormatError(f"{folder / OWN}: 'frames' does not name a frame for each record of {records}")
    return GagavatarTracks(
        keys,
        table["bbox"] * SIZE,
        to_viewmat(table["transform_matrix"]),
        meaning.expression(table["expcode"], table.get("eyelids")),
        table["posecode"][:, 3:],
        table["eyecode"],
        meaning.identity(table["shapecode"]),
        np.array(frames, np.int64),
        _read_splits(folder / SPLITS, set(keys)) if (folder / SPLITS).exists() else {},
        meaning,
    )


def _read_record(place: str, record: dict[str, Any]) -> dict[str, Array]:
    found = {
        name: array(place, record, name, shape)
        for name, shape in (
            ("bbox", (4,)), ("shapecode", (None,)), ("expcode", (None,)), ("posecode", (6,)), ("eyecode", (6,)),
            ("transform_matrix", (3, 4)),
        )
    }  # fmt: skip
    if "eyelids" in record:
        found["eyelids"] = array(place, record, "eyelids", (2,))
    if found["posecode"][:3].any():
        raise FormatError(
            f"{place}: 'posecode' starts with {found['posecode'][:3].tolist()}, the head's turn belongs to the camera"
        )
    turn = found["transform_matrix"][:, :3]
    if np.abs(turn @ turn.T - np.eye(3)).max() > 1e-2 or np.linalg.det(turn) < 0:
        raise FormatError(f"{place}: 'transform_matrix' does not start with a rotation: {shortly(turn.tolist())}")
    return found


def _read_splits(path: Path, known: set[str]) -> dict[str, list[str]]:
    found = read_json(path)
    for part in ("train", "val", "test"):
        keys = present(str(path), found, part)
        if not isinstance(keys, list):
            raise FormatError(f"{path}: {part!r} = {shortly(keys)}, a list of keys was expected")
        unknown = [key for key in keys if not isinstance(key, str) or key not in known]
        if unknown:
            raise FormatError(
                f"{path}: {part!r} names {shortly(unknown[0])}, of which there is no record ({len(unknown)} such)"
            )
    return {part: list(found[part]) for part in ("train", "val", "test")}
