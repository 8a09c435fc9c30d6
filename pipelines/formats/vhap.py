"""VHAP's export, which is the dataset of GaussianAvatars: a folder of pictures, masks and FLAME parameters per time step.

    images/{t:05d}_{cam:02d}.png      the person over white, above the neck
    fg_masks/{t:05d}_{cam:02d}.png    255 is the person
    flame_param/{t:05d}.npz           translation, rotation, neck_pose, jaw_pose (1, 3), eyes_pose (1, 6), shape (I,),
                                      expr (1, E), static_offset (1, V, 3), here zero; eyelids (1, 2) where the head has them
    canonical_flame_param.npz         the same at rest with the mouth open: jaw_pose 0.3 0 0
    transforms.json                   all frames; transforms_{train,val,test}.json the parts of them

Cameras are OpenGL's (x right, y up, z backward), camera to world. A still camera looks at a head that moves: one turn
about the head's root joint J and a translation, x = R (v - J) + J + translation. As in VHAP's export the mean translation is
taken off the head and the camera. Here the camera stands at (0, 0, 1) before that, as VHAP has it for one video.

The npz keys are FLAME's. A track of another head is written with its own coefficients under the same keys (`shape`, `expr`),
and its name and its coefficients' names stand in the entry `headwater` of transforms.json; GaussianAvatars itself poses FLAME,
so only a track of FLAME means to it what it should. The last part of a clip is `test`; `val` is the last 20 frames of it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from avatar_models.heads.interface import Head
from avatar_models.heads.skinning import ROOT
from avatar_models.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from pipelines.atomic import atomic_folder
from pipelines.formats.clip import Array, TrackedClip, head_only, joints, over, write_png
from pipelines.formats.fields import (
    FormatError,
    array,
    frame_list,
    number,
    picture_names,
    read_json,
    read_npz,
    rigid,
    text,
    whole,
)
from pipelines.formats.flame_codes import entry, read_entry, to_codes
from pipelines.frames import StoredFrame

Part = Literal["all", "train", "val", "test"]
OPENGL = np.diag([1.0, -1.0, -1.0])
CAMERA = np.array([0.0, 0.0, 1.0])
"""Where the camera stands before the scene is moved, metres."""
OPEN_MOUTH = 0.3
"""Radians the jaw of the canonical head is open."""
VAL_FRAMES = 20
WHITE = 255


def write_vhap(folder: Path, clip: TrackedClip, pictures: Iterable[StoredFrame], head: Head) -> None:
    """Writes a new folder, whole or not at all; `pictures` are the clip's N frames in order.

    GaussianAvatars' loader takes the picture's middle for the principal point: give it a clip that
    :func:`pipelines.formats.clip.centred` has turned. Raises FormatError, FileExistsError, DiskFull.
    """
    rotation, translation = head_motion(clip, joints(head, clip)[:, ROOT])
    mean = translation.mean(0)
    c2w = np.eye(4)
    c2w[:3, 3] = CAMERA - mean
    codes = to_codes(clip)
    common = {"shape": codes.identity, "static_offset": np.zeros((1, len(head.rig.template), 3))}
    with atomic_folder(folder) as new:
        for name in ("images", "fg_masks", "flame_param"):
            (new / name).mkdir()
        frames = []
        for row, picture in enumerate(head_only(clip, pictures)):
            name = f"{row:05d}_00.png"
            write_png(new / "images" / name, over(picture, WHITE))
            write_png(new / "fg_masks" / name, picture.matte)
            posed = {
                "translation": translation[row] - mean, "rotation": rotation[row], "neck_pose": clip.neck[row],
                "jaw_pose": clip.jaw[row], "eyes_pose": clip.eyes[row], "expr": codes.expression[row],
                **({} if codes.eyelids is None else {"eyelids": codes.eyelids[row]}),
            }  # fmt: skip
            _write_npz(new / "flame_param" / f"{row:05d}.npz", {key: value[None] for key, value in posed.items()} | common)
            if row == 0:
                rest = {key: np.zeros_like(value[None]) for key, value in posed.items()}
                rest["jaw_pose"][0, 0] = OPEN_MOUTH
                _write_npz(new / "canonical_flame_param.npz", rest | common)
            frames.append(
                {
                    "timestep_index": row,
                    "timestep_index_original": int(clip.frames[row]),
                    "timestep_id": f"{clip.frames[row]:06d}",
                    "camera_index": 0,
                    "camera_id": "0",
                    **_intrinsics(clip, row),
                    "transform_matrix": c2w.tolist(),
                    "file_path": f"images/{name}",
                    "fg_mask_path": f"fg_masks/{name}",
                    "flame_param_path": f"flame_param/{row:05d}.npz",
                }
            )
        if len(frames) != len(clip):
            raise FormatError(f"{clip.clip_id}: {len(frames)} pictures for {len(clip)} tracked frames")
        _write_parts(new, clip, frames)


def head_motion(clip: TrackedClip, root: Array) -> tuple[Array, Array]:
    """(rotation as axis-angle (N, 3), translation (N, 3)) of the head before a still camera at :data:`CAMERA`.

    root (N, 3): the head's root joint, about which the rotation turns.
    """
    turn = OPENGL @ clip.viewmat[:, :3, :3]
    place = clip.viewmat[:, :3, 3] @ OPENGL + CAMERA
    translation = place - root + (turn @ root[..., None])[..., 0]
    return matrix_to_axis_angle(torch.from_numpy(turn)).numpy(), translation


def _write_npz(path: Path, arrays: Mapping[str, Array]) -> None:
    np.savez_compressed(path, **{name: value.astype(np.float32) for name, value in arrays.items()})


def _intrinsics(clip: TrackedClip, row: int) -> dict[str, float | int]:
    K = clip.K[row]
    return {
        "cx": K[0, 2], "cy": K[1, 2], "fl_x": K[0, 0], "fl_y": K[1, 1], "h": clip.height, "w": clip.width,
        "camera_angle_x": 2 * math.atan(clip.width / (2 * K[0, 0])),
        "camera_angle_y": 2 * math.atan(clip.height / (2 * K[1, 1])),
    }  # fmt: skip


def _write_parts(folder: Path, clip: TrackedClip, frames: list[dict[str, Any]]) -> None:
    test = [frame for frame, held_out in zip(frames, clip.held_out, strict=True) if held_out]
    parts = {
        "": frames,
        "_train": [frame for frame, held_out in zip(frames, clip.held_out, strict=True) if not held_out],
        "_val": test[-VAL_FRAMES:],
        "_test": test,
    }
    for name, own in parts.items():
        found = {
            **_intrinsics(clip, 0),
            "timestep_indices": [frame["timestep_index"] for frame in own],
            "camera_indices": [0],
            "frames": own,
            "headwater": entry(clip),
        }
        (folder / f"transforms{name}.json").write_text(json.dumps(found, indent=1) + "\n")


@dataclass(frozen=True)
class VhapFolder:
    """What a folder holds, a row for each picture: time steps seen by several cameras come once for each."""

    clip: TrackedClip
    timestep: NDArray[np.int64]  # (N,)
    camera: NDArray[np.int64]  # (N,) camera_index
    images: list[Path]
    masks: list[Path | None]


def read_vhap(folder: Path, head: Head | None, part: Part = "all") -> VhapFolder:
    """Reads transforms.json, or one part's, with the parameters that it names; pictures are not opened.

    The head that the parameters belong to says where its root joint lies. Without one (None) a folder whose heads do not
    turn can be read. Raises FormatError.
    """
    path = folder / ("transforms.json" if part == "all" else f"transforms_{part}.json")
    if not path.exists():
        there = sorted(file.name for file in folder.glob("transforms*.json"))
        raise FormatError(f"{path}: no such file; {folder} has {', '.join(there) or 'no transforms.json of any kind'}")
    found = read_json(path)
    frames = frame_list(path, found)
    meaning = read_entry(str(path), found, folder.name)
    places = [f"{path}: frame {index}" for index in range(len(frames))]
    judged = picture_names(folder / "transforms_val.json") | picture_names(folder / "transforms_test.json")
    rows: list[dict[str, Array]] = []
    stored: dict[str, dict[str, Array]] = {}
    for place, frame in zip(places, frames, strict=True):
        fields = {**{key: value for key, value in found.items() if key != "frames"}, **frame}
        parameters = text(place, fields, "flame_param_path")
        if parameters not in stored:
            stored[parameters] = _read_parameters(folder / parameters)
        focal = [number(place, fields, key, positive=True) for key in ("fl_x", "fl_y")]
        K = np.array([[focal[0], 0, number(place, fields, "cx")], [0, focal[1], number(place, fields, "cy")], [0, 0, 1.0]])
        rows.append({**stored[parameters], "K": K, "c2w": rigid(place, fields, "transform_matrix")})

    def stacked(name: str) -> Array:
        shapes = {row[name].shape for row in rows}
        if len(shapes) > 1:
            raise FormatError(f"{path}: its flame_param files differ in the shape of {name!r}: {sorted(shapes)}")
        return np.stack([row[name] for row in rows])

    identity = stacked("shape")
    if np.abs(identity - identity[0]).max() > 0:
        raise FormatError(f"{path}: its flame_param files differ in 'shape'; a folder holds one person")
    eyelids = stacked("eyelids") if all("eyelids" in row for row in rows) else None
    common = {key: value for key, value in found.items() if key in ("w", "h")}
    sizes = {
        tuple(int(number(place, {**common, **frame}, side, positive=True)) for side in ("w", "h"))
        for place, frame in zip(places, frames, strict=True)
    }
    if len(sizes) > 1:
        raise FormatError(f"{path}: its pictures differ in size: {sorted(sizes)}")
    width, height = sizes.pop()
    steps = [whole(place, frame, "timestep_index", k) for k, (place, frame) in enumerate(zip(places, frames, strict=True))]
    still = TrackedClip(
        meaning.clip_id, meaning.head, width, height,
        np.array([
            whole(place, frame, "timestep_index_original", step)
            for place, frame, step in zip(places, frames, steps, strict=True)
        ]),
        np.array([frame.get("file_path") in judged for frame in frames]),
        stacked("K"), np.tile(np.eye(4), (len(rows), 1, 1)), meaning.expression(stacked("expr"), eyelids), stacked("neck_pose"),
        stacked("jaw_pose"), stacked("eyes_pose"), meaning.identity(identity[0]),
        meaning.expression_names, meaning.identity_names,
    )  # fmt: skip
    viewmat = _views(path, still, head, stacked("c2w"), stacked("rotation"), stacked("translation"))
    return VhapFolder(
        replace(still, viewmat=viewmat),
        np.array(steps),
        np.array([whole(place, frame, "camera_index", 0) for place, frame in zip(places, frames, strict=True)]),
        [folder / text(place, frame, "file_path") for place, frame in zip(places, frames, strict=True)],
        [
            folder / text(place, frame, "fg_mask_path") if "fg_mask_path" in frame else None
            for place, frame in zip(places, frames, strict=True)
        ],
    )


def _read_parameters(path: Path) -> dict[str, Array]:
    found = read_npz(path)
    place = str(path)
    if "shape" in found and found["shape"].ndim == 2 and len(found["shape"]) == 1:  # some writers keep the batch
        found["shape"] = found["shape"][0]
    read = {key: array(place, found, key, (1, 3))[0] for key in ("translation", "rotation", "neck_pose", "jaw_pose")}
    read["eyes_pose"] = array(place, found, "eyes_pose", (1, 6))[0]
    read["shape"], read["expr"] = array(place, found, "shape", (None,)), array(place, found, "expr", (1, None))[0]
    if "eyelids" in found:
        read["eyelids"] = array(place, found, "eyelids", (1, 2))[0]
    return read


def _views(path: Path, clip: TrackedClip, head: Head | None, c2w: Array, rotation: Array, translation: Array) -> Array:
    """Head's frame to OpenCV camera (N, 4, 4), from the camera's place and the head's motion."""
    motion = np.tile(np.eye(4), (len(c2w), 1, 1))
    motion[:, :3, 3] = translation
    if np.abs(rotation).max() > 0:
        if head is None:
            raise FormatError(
                f"{path}: its heads turn about their root joint, whose place only the head model knows; "
                f"read it with the head {clip.head!r}"
            )
        root = joints(head, clip)[:, ROOT]
        turn = axis_angle_to_matrix(torch.from_numpy(rotation)).numpy()
        motion[:, :3, :3] = turn
        motion[:, :3, 3] += root - (turn @ root[..., None])[..., 0]
    flip = np.diag([1.0, -1.0, -1.0, 1.0])
    return np.asarray(flip @ np.linalg.inv(c2w) @ motion)
