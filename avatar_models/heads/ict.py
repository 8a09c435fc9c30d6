"""The ICT-FaceKit head (Li et al. 2020, MIT licence): 100 identity modes and ARKit's expressions.

Read from an npz or from its OBJ folder. ICT's model has no joints; its jaw and eyes are given some here. The jaw opens about
the axis that `jawOpen` turns the lower teeth about, what that turn leaves of `jawOpen` becomes a pose corrective, and so do
the lids that follow the gaze. Lengths are centimetres in the files and metres here.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avatar_models.heads.skinning import JAW, LEFT_EYE, NECK, NUM_JOINTS, RIGHT_EYE, ROOT, Rig

Array = NDArray[np.float64]
CM = 0.01
NUM_VERTICES = 26719
PARTS = {  # vertex ranges of ICT's topology
    "face": (0, 9409), "head": (9409, 11248), "mouth": (11248, 13294), "sockets": (13294, 14062), "gums": (14062, 17039),
    "teeth": (17039, 21451), "eyes_left": (21451, 23021), "eyes_right": (23021, 24591), "shells": (24591, NUM_VERTICES),
}  # fmt: skip
"""Shells are the tear film, blends and lashes: they lie over the eyeballs and are left out of the triangles."""
EYES_AT = np.array([0.0, 0.022, 0.0218])
"""Where the middle between the eyeballs lies in the frame that all heads share, metres."""
NOT_EXPRESSIONS = re.compile(r"PupilDilate|cheekRaiser|eyeLook|jawOpen")
FULL_LOOK = 0.5  # radians of gaze at a coefficient of 1
NECK_JOINT, NECK_BASE = np.array([0.0, -0.105, -0.045]), -0.155  # metres


class IctFileError(ValueError):
    """The file is not an ICT-FaceKit model that this code can read; the message names the file and the reason."""


@dataclass(frozen=True)
class IctModel:
    """ICT's arrays as a rig."""

    rig: Rig
    faces: Tensor  # (F, 3) int64
    expression_names: tuple[str, ...]
    masks: dict[str, Tensor]


def read_ict(path: Path) -> IctModel:
    """Reads ict_facekit.npz, or the folder FaceXModel of ICT-FaceKit with its OBJ files. Raises IctFileError, OSError."""
    neutral, faces, identity, shapes = _read_objs(path) if path.is_dir() else _read_npz(path)
    moved = np.concatenate([neutral[slice(*PARTS[eye])] for eye in ("eyes_left", "eyes_right")]).mean(0)
    V = (neutral - moved) * CM + EYES_AT
    identity, shapes = identity * CM, {name: shape * CM for name, shape in shapes.items()}

    joints = np.tile(NECK_JOINT, (NUM_JOINTS, 1))
    joints[ROOT, 1] = NECK_BASE
    for joint, eye in ((LEFT_EYE, "eyes_left"), (RIGHT_EYE, "eyes_right")):
        joints[joint] = _middle(V[slice(*PARTS[eye])])
    angle, joints[JAW] = _turn_of_lower_teeth(V, shapes["jawOpen"])
    weights = _weights(V, shapes["jawOpen"], angle, joints)
    joint_identity = np.zeros((len(identity), NUM_JOINTS, 3))
    for joint, eye in ((LEFT_EYE, "eyes_left"), (RIGHT_EYE, "eyes_right")):
        joint_identity[:, joint] = identity[:, slice(*PARTS[eye])].mean(1)
    joint_identity[:, JAW] = identity[:, 17039:21451].mean(1)  # with the teeth

    names = tuple(sorted(name for name in shapes if not NOT_EXPRESSIONS.search(name)))
    rig = Rig(
        template=_tensor(V),
        identity_basis=_tensor(identity),
        expression_basis=_tensor(np.stack([shapes[name] for name in names])),
        joints=_tensor(joints),
        joint_identity_basis=_tensor(joint_identity),
        weights=_tensor(weights),
        pose_basis=_tensor(_correctives(V, shapes, angle, joints, weights)),
    )
    triangles = _triangles(faces)
    return IctModel(rig, torch.from_numpy(triangles), names, _masks(V))


def _read_npz(path: Path) -> tuple[Array, NDArray[np.int64], Array, dict[str, Array]]:
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = dict(stored)
    except (BadZipFile, EOFError, TypeError, ValueError, zlib.error) as error:
        raise IctFileError(f"{path}: not an npz file ({error})") from None
    missing = [key for key in ("neutral", "faces", "identity", "expression", "expression_names") if key not in arrays]
    if missing:
        raise IctFileError(f"{path}: no {', '.join(missing)}; it has {', '.join(arrays) or 'nothing'}")
    try:
        neutral, identity, expression = (arrays[key].astype(np.float64) for key in ("neutral", "identity", "expression"))
        faces = arrays["faces"].astype(np.int64)
    except (TypeError, ValueError) as error:
        raise IctFileError(f"{path}: numbers were expected ({error})") from None
    names = [str(name) for name in arrays["expression_names"].ravel()]
    _check(path, neutral, faces, identity, expression, names)
    return neutral, faces, identity, dict(zip(names, expression, strict=True))


def _read_objs(folder: Path) -> tuple[Array, NDArray[np.int64], Array, dict[str, Array]]:
    """generic_neutral_mesh.obj, identity000.obj ... and an OBJ for each expression, all of one topology."""
    neutral, faces = _read_obj(folder / "generic_neutral_mesh.obj")
    identity, expressions = [], {}
    for path in sorted(folder.glob("*.obj")):
        if path.stem == "generic_neutral_mesh":
            continue
        vertices, _ = _read_obj(path)
        if vertices.shape != neutral.shape:
            raise IctFileError(f"{path}: {len(vertices)} vertices, the neutral mesh has {len(neutral)}")
        if path.stem.startswith("identity"):
            identity.append(vertices - neutral)
        else:
            expressions[path.stem] = vertices - neutral
    if not identity or not expressions:
        raise IctFileError(f"{folder}: {len(identity)} identity and {len(expressions)} expression OBJ files; both are needed")
    _check(folder, neutral, faces, np.stack(identity), np.stack(list(expressions.values())), list(expressions))
    return neutral, faces, np.stack(identity), expressions


def _read_obj(path: Path) -> tuple[Array, NDArray[np.int64]]:
    """Vertices (V, 3) and faces (F, 4), -1 in the fourth place of a triangle."""
    vertices, faces = [], []
    try:
        for line in path.read_text(encoding="ascii", errors="replace").splitlines():
            words = line.split()
            if words[:1] == ["v"]:
                vertices.append([float(word) for word in words[1:4]])
            elif words[:1] == ["f"]:
                corners = [int(word.partition("/")[0]) - 1 for word in words[1:]]
                faces.append((corners + [-1])[:4])
        return np.asarray(vertices, np.float64).reshape(-1, 3), np.asarray(faces, np.int64).reshape(-1, 4)
    except FileNotFoundError:
        raise IctFileError(f"{path}: not found; the folder FaceXModel of ICT-FaceKit was expected") from None
    except ValueError as error:
        raise IctFileError(f"{path}: not an OBJ file ({error})") from None


def _check(path: Path, neutral: Array, faces: NDArray[np.int64], identity: Array, expression: Array, names: list[str]) -> None:
    wanted = (NUM_VERTICES, 3)
    if faces.ndim != 2 or faces.shape[1] != 4 or faces.min() < -1 or faces.max() >= NUM_VERTICES:
        raise IctFileError(f"{path}: faces must be (F, 4) vertices, -1 in the fourth place of a triangle; are {faces.shape}")
    if len(names) != len(expression):
        raise IctFileError(f"{path}: {len(expression)} expressions have {len(names)} names")
    if neutral.shape != wanted or identity.shape[1:] != wanted or expression.shape[1:] != wanted:
        shapes = f"{neutral.shape}, {identity.shape}, {expression.shape}"
        raise IctFileError(f"{path}: neutral, identity, expression have the shapes {shapes}; ICT has {NUM_VERTICES} vertices")
    if not all(np.isfinite(array).all() for array in (neutral, identity, expression)):
        raise IctFileError(f"{path}: holds values that are not finite")
    needed = {"jawOpen", *(f"eyeLook{way}_{side}" for way in ("Down", "Up", "In", "Out") for side in "LR")}
    if missing := sorted(needed - set(names)):
        raise IctFileError(f"{path}: no expression {', '.join(missing)}")
    if not np.any(expression[names.index("jawOpen")]):
        raise IctFileError(f"{path}: jawOpen moves nothing")


def _triangles(faces: NDArray[np.int64]) -> NDArray[np.int64]:
    """(F, 3): quads cut in two, shells left out."""
    faces = faces[(faces < PARTS["shells"][0]).all(1)]
    quads = faces[faces[:, 3] >= 0]
    return np.concatenate([faces[:, :3], quads[:, [0, 2, 3]]])


def _middle(ball: Array) -> Array:
    """Centre (3,) of the sphere nearest to points (N, 3)."""
    solved = np.linalg.lstsq(np.c_[2 * ball, np.ones(len(ball))], (ball**2).sum(1), rcond=None)[0]
    return np.asarray(solved[:3])


def _turn_about_x(angle: float) -> Array:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[1.0, 0, 0], [0, c, -s], [0, s, c]])


def _turn_of_lower_teeth(V: Array, opened: Array) -> tuple[float, Array]:
    """(angle about x, place of the axis (3,)) of the rigid motion that `jawOpen` gives the lower teeth."""
    teeth = np.arange(*PARTS["teeth"])
    length = np.linalg.norm(opened[teeth], axis=1)
    lower = teeth[length > 0.5 * length.max()]
    a, b = V[lower, 1:], (V + opened)[lower, 1:]
    a0, b0 = a - a.mean(0), b - b.mean(0)
    angle = float(np.arctan2((a0[:, 0] * b0[:, 1] - a0[:, 1] * b0[:, 0]).sum(), (a0 * b0).sum()))
    R = _turn_about_x(angle)[1:, 1:]
    pivot = np.linalg.solve(np.eye(2) - R, b.mean(0) - R @ a.mean(0))
    return angle, np.array([0.0, *pivot])


def _weights(V: Array, opened: Array, angle: float, joints: Array) -> Array:
    """(V, 5): a vertex turns with the jaw by the share of the jaw's turn that `jawOpen` gives it."""
    turned = (V - joints[JAW]) @ (_turn_about_x(angle) - np.eye(3)).T
    share = (opened * turned).sum(1) / np.maximum((turned**2).sum(1), 1e-12)
    weights = np.zeros((len(V), NUM_JOINTS))
    weights[:, JAW] = np.clip(share, 0.0, 1.0) * (V[:, 1] < joints[JAW, 1] + 0.02)
    for joint, eye in ((LEFT_EYE, "eyes_left"), (RIGHT_EYE, "eyes_right")):
        part = slice(*PARTS[eye])
        weights[part] = 0.0
        weights[part, joint] = 1.0
    t = np.clip((V[:, 1] - NECK_BASE) / 0.06, 0.0, 1.0)
    above = t * t * (3 - 2 * t)
    weights[:, JAW] *= above
    weights[:, NECK] = above - weights[:, JAW] - weights[:, LEFT_EYE] - weights[:, RIGHT_EYE]
    weights[:, NECK] = np.maximum(weights[:, NECK], 0.0)
    weights[:, ROOT] = 1.0 - weights[:, 1:].sum(1)
    return weights


def _correctives(V: Array, shapes: dict[str, Array], angle: float, joints: Array, weights: Array) -> Array:
    """(36, V, 3) by the entries of R - 1 of neck, jaw and eyes: exact for `jawOpen` at its own angle, linear in the sine."""
    basis = np.zeros((9 * (NUM_JOINTS - 1), len(V), 3))
    turn = weights[:, JAW, None, None] * (_turn_about_x(angle) - np.eye(3))  # (V, 3, 3)
    left = shapes["jawOpen"] - np.einsum("vij,vj->vi", turn, V - joints[JAW])
    basis[_entry(JAW, 2, 1)] = np.linalg.solve(np.eye(3) + turn, left[..., None])[..., 0] / np.sin(angle)  # before the turn
    for joint, side, outwards in ((LEFT_EYE, "L", 1.0), (RIGHT_EYE, "R", -1.0)):
        down, up, out, inwards = (shapes[f"eyeLook{way}_{side}"] for way in ("Down", "Up", "Out", "In"))
        basis[_entry(joint, 2, 1)] = (down - up) / (2 * np.sin(FULL_LOOK))
        basis[_entry(joint, 0, 2)] = outwards * (out - inwards) / (2 * np.sin(FULL_LOOK))
    return basis


def _entry(joint: int, row: int, column: int) -> int:
    return 9 * (joint - 1) + 3 * row + column


def _masks(V: Array) -> dict[str, Tensor]:
    def part(*names: str) -> NDArray[np.bool_]:
        inside = np.zeros(len(V), bool)
        for name in names:
            inside[slice(*PARTS[name])] = True
        return inside

    front = part("face") & (np.abs(V[:, 0]) < 0.06) & (V[:, 1] > -0.095) & (V[:, 1] < 0.06) & (V[:, 2] > 0)
    regions = {
        "face": front, "skin": part("face", "head"), "eyes_left": part("eyes_left"), "eyes_right": part("eyes_right"),
        "teeth": part("teeth"), "mouth": part("mouth", "gums"),
    }  # fmt: skip
    return {name: torch.from_numpy(region) for name, region in regions.items()}


def _tensor(values: Array) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, np.float32))
