"""INSTA's layout: one camera's pictures with mattes, a mesh and coefficients for each frame.

    images/{frame:05d}.png            RGBA: the picture, and in alpha the person above the neck
    flame/exp/{frame:05d}.txt         expression, one coefficient a line, %.8f; flame/{neck,jaw,eyes,eyelids} likewise
    meshes/{frame:05d}.obj            the head's surface in its own frame, metres; canonical.obj is the person at rest
    transforms.json                   all frames; transforms_{train,test,val}.json the parts of them

The cameras are OpenCV's (x right, y down, z forward), camera to world: the head stands still and the camera moves about it.
One K is for all frames. `test` is what was held out, at the end; `val` is the last 20 frames. INSTA's own folders may have
depth/, seg_mask/ and background/ besides, which are not written here, and have no flame/neck, jaw, eyes or eyelids.

The coefficients are FLAME's. A track of another head keeps its own; its name, its coefficients' names and the identity,
for which the layout has no place, stand in the entry `headwater` of transforms.json.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from avatar_models.cameras import Camera
from avatar_models.heads.interface import Head
from pipelines.atomic import atomic_folder
from pipelines.formats.clip import Array, TrackedClip, head_only, surface, write_png
from pipelines.formats.fields import (
    FormatError,
    array,
    frame_list,
    number,
    picture_names,
    read_json,
    rigid,
    shortly,
    text,
    whole,
)
from pipelines.formats.flame_codes import Meaning, entry, read_entry, to_codes
from pipelines.frames import StoredFrame, whole_frame

Part = Literal["all", "train", "test", "val"]
VAL_FRAMES = 20
SAME_K = 1e-3
"""Pixels that the frames' K may differ by and still count as one."""


def write_insta(folder: Path, clip: TrackedClip, pictures: Iterable[StoredFrame], head: Head) -> None:
    """Writes a new folder, whole or not at all; `pictures` are the clip's N frames in order.

    The frames must share one K: :func:`pipelines.formats.clip.centred` makes it so. Raises FormatError, FileExistsError,
    DiskFull.
    """
    spread = np.ptp(clip.K, axis=0).max()
    if spread > SAME_K:
        raise FormatError(
            f"{clip.clip_id}: K differs by {spread:.3g} pixels between frames, the layout has one for all; centre it"
        )
    codes = to_codes(clip)
    texts = {"exp": codes.expression, "neck": clip.neck, "jaw": clip.jaw, "eyes": clip.eyes}
    if codes.eyelids is not None:
        texts["eyelids"] = codes.eyelids
    faces = "".join(f"f {a} {b} {c}\n" for a, b, c in (head.faces + 1).tolist())
    with atomic_folder(folder) as new:
        for name in ("images", "meshes", *(f"flame/{name}" for name in texts)):
            (new / name).mkdir(parents=True)
        frames = []
        for row, picture in enumerate(head_only(clip, pictures)):
            name = f"{row:05d}"
            write_png(new / f"images/{name}.png", np.concatenate([picture.image, picture.matte[..., None]], 2))
            for kind, values in texts.items():
                np.savetxt(new / f"flame/{kind}/{name}.txt", values[row], fmt="%.8f")
            _write_mesh(new / f"meshes/{name}.obj", surface(head, clip, row), faces)
            frames.append(
                {
                    "transform_matrix": np.linalg.inv(clip.viewmat[row]).tolist(),
                    "file_path": f"images/{name}.png",
                    "mesh_path": f"meshes/{name}.obj",
                    "exp_path": f"flame/exp/{name}.txt",
                    "source_frame": int(clip.frames[row]),
                }
            )
        if len(frames) != len(clip):
            raise FormatError(f"{clip.clip_id}: {len(frames)} pictures for {len(clip)} tracked frames")
        _write_mesh(new / "canonical.obj", _at_rest(clip, head), faces)
        parts = {
            "": frames,
            "_train": [frame for frame, held_out in zip(frames, clip.held_out, strict=True) if not held_out],
            "_test": [frame for frame, held_out in zip(frames, clip.held_out, strict=True) if held_out],
            "_val": frames[-VAL_FRAMES:],
        }
        own = {**_intrinsics(clip), "headwater": {**entry(clip), "identity": clip.identity.tolist()}}
        for name, part in parts.items():
            (new / f"transforms{name}.json").write_text(json.dumps({**own, "frames": part}, indent=1) + "\n")


def _intrinsics(clip: TrackedClip) -> dict[str, float]:
    K = clip.K[0]
    across, down = (2 * math.atan(size / (2 * focal)) for size, focal in ((clip.width, K[0, 0]), (clip.height, K[1, 1])))
    return {
        "w": clip.width, "h": clip.height, "cx": K[0, 2], "cy": K[1, 2], "fl_x": K[0, 0], "fl_y": K[1, 1],
        "camera_angle_x": across, "camera_angle_y": down, "x_fov": math.degrees(across), "y_fov": math.degrees(down),
        "integer_depth_scale": 0.001,
    }  # fmt: skip


def _at_rest(clip: TrackedClip, head: Head) -> Array:
    zeros = (torch.zeros(1, head.num_expression), torch.zeros(1, 3), torch.zeros(1, 3), torch.zeros(1, 6))
    identity = torch.from_numpy(clip.identity.astype(np.float32))[None]
    return np.asarray(head.vertices(identity, *zeros)[0].double().numpy())


def _write_mesh(path: Path, vertices: Array, faces: str) -> None:
    """A Wavefront OBJ of vertices (V, 3) and the lines of its triangles."""
    path.write_text("".join(f"v {x:.7f} {y:.7f} {z:.7f}\n" for x, y, z in vertices.tolist()) + faces)


@dataclass(frozen=True)
class InstaFolder:
    """What a folder holds: N frames. Conventions as in the tables; None is what the folder does not say."""

    K: Array  # (3, 3) pixels
    viewmat: Array  # (N, 4, 4) head's world to camera
    width: int
    height: int
    expression: Array  # (N, E)
    neck: Array | None  # (N, 3)
    jaw: Array | None  # (N, 3)
    eyes: Array | None  # (N, 6)
    identity: Array | None  # (I,)
    frames: NDArray[np.int64]  # (N,) index in the source, or the place in the list where nobody says
    held_out: NDArray[np.bool_]  # (N,) in transforms_test.json
    images: list[Path]
    meshes: list[Path | None]
    meaning: Meaning

    @property
    def camera(self) -> Camera:
        """The N cameras."""
        K = torch.from_numpy(self.K).expand(len(self.viewmat), 3, 3)
        return Camera(K, torch.from_numpy(self.viewmat), self.width, self.height)


def read_insta(folder: Path, part: Part = "all") -> InstaFolder:
    """Reads transforms.json, or one part's, with the coefficients that it names; pictures are not opened (:func:`read_rgba`).

    Frames come in the order of the file, which need not be that of time. Raises FormatError.
    """
    path = folder / ("transforms.json" if part == "all" else f"transforms_{part}.json")
    if not path.exists():
        there = sorted(file.name for file in folder.glob("transforms*.json"))
        raise FormatError(f"{path}: no such file; {folder} has {', '.join(there) or 'no transforms.json of any kind'}")
    found = read_json(path)
    frames = frame_list(path, found)
    meaning = read_entry(str(path), found, folder.name)
    focal = [number(str(path), found, key, positive=True) for key in ("fl_x", "fl_y")]
    K = np.array([[focal[0], 0, number(str(path), found, "cx")], [0, focal[1], number(str(path), found, "cy")], [0, 0, 1.0]])
    places = [f"{path}: frame {index}" for index in range(len(frames))]
    texts = [folder / text(place, frame, "exp_path") for place, frame in zip(places, frames, strict=True)]
    stored = {"exp": _coefficients(path, texts)}
    for kind, count in (("neck", 3), ("jaw", 3), ("eyes", 6), ("eyelids", 2)):
        own = [_beside(exp, kind) for exp in texts]
        if all(file.exists() for file in own):
            stored[kind] = _coefficients(path, own, count)
    judged = picture_names(folder / "transforms_test.json")
    own_entry = found.get("headwater", {})
    return InstaFolder(
        K,
        np.stack([np.linalg.inv(rigid(place, frame, "transform_matrix")) for place, frame in zip(places, frames, strict=True)]),
        int(number(str(path), found, "w", positive=True)),
        int(number(str(path), found, "h", positive=True)),
        meaning.expression(stored["exp"], stored.get("eyelids")),
        stored.get("neck"),
        stored.get("jaw"),
        stored.get("eyes"),
        array(str(path), own_entry, "identity", (meaning.num_identity,)) if own_entry else None,
        np.array(
            [whole(place, frame, "source_frame", row) for row, (place, frame) in enumerate(zip(places, frames, strict=True))]
        ),
        np.array([frame.get("file_path") in judged for frame in frames]),
        [picture_path(folder, place, frame) for place, frame in zip(places, frames, strict=True)],
        [
            folder / text(place, frame, "mesh_path") if "mesh_path" in frame else None
            for place, frame in zip(places, frames, strict=True)
        ],
        meaning,
    )


def picture_path(folder: Path, place: str, frame: dict[str, Any]) -> Path:
    """Where a frame's picture lies; its name may lack the ending. Raises FormatError with `place` for a frame without one."""
    name = text(place, frame, "file_path")
    return folder / (name if Path(name).suffix else f"{name}.png")


def _beside(exp: Path, kind: str) -> Path:
    """flame/exp/00001.txt -> flame/jaw/00001.txt."""
    return exp.parent.parent / kind / exp.name


def _coefficients(transforms: Path, files: list[Path], count: int | None = None) -> Array:
    """One row of numbers for each file."""
    rows: list[Array] = []
    for file in files:
        try:
            values = np.loadtxt(file, ndmin=1)
        except FileNotFoundError:
            raise FormatError(f"{file}: no such file, though {transforms} names it or its like") from None
        except (OSError, ValueError) as error:
            raise FormatError(f"{file}: not a number on each line ({error})") from None
        rows.append(
            array(str(file), {"coefficients": values}, "coefficients", (count if count else len(rows[0]) if rows else None,))
        )
    return np.stack(rows)


def read_rgba(path: Path) -> StoredFrame:
    """A picture (H, W, 3) with its matte (H, W); without alpha all of it is the person. Raises FormatError."""
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED) if path.is_file() else None
    if image is None:
        raise FormatError(f"{path}: {'not a picture that can be decoded' if path.exists() else 'no such file'}")
    if image.dtype != np.uint8 or image.ndim != 3:
        raise FormatError(
            f"{path}: a picture of shape {shortly(image.shape)} and type {image.dtype}, 8 bits of RGBA were expected"
        )
    matte = image[..., 3] if image.shape[2] == 4 else np.full(image.shape[:2], 255, np.uint8)
    return whole_frame(np.ascontiguousarray(image[..., 2::-1]), np.ascontiguousarray(matte))
