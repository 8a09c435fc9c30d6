"""FLAME (Li et al. 2017) from the files that its owners give out: 2020 and 2023, pickle or npz.

The files are licensed and are not part of this project. Pickles are read without running anything that they name
(:mod:`avatar_models.pickles`), and chumpy is not needed.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from avatar_models.heads.skinning import LEFT_EYE, NUM_JOINTS, RIGHT_EYE, Rig
from avatar_models.pickles import PickleRefused, load_pickle

NUM_IDENTITY, NUM_EXPRESSION = 300, 100
NUM_POSE_FEATURES = 9 * (NUM_JOINTS - 1)
PARENTS = (-1, 0, 1, 1, 1)  # root, neck, jaw, left eye, right eye


class FlameFileError(ValueError):
    """The file is not a FLAME model that this code can read; the message names the file and the reason."""


@dataclass(frozen=True)
class FlameModel:
    """FLAME's arrays. V vertices, F faces."""

    rig: Rig
    faces: Tensor  # (F, 3) int64
    expression_names: tuple[str, ...]

    @property
    def masks(self) -> dict[str, Tensor]:
        """Regions (V,) bool by what turns with which joint."""
        left, right = self.rig.weights[:, LEFT_EYE] > 0.5, self.rig.weights[:, RIGHT_EYE] > 0.5
        return {"skin": ~(left | right), "eyes_left": left, "eyes_right": right}


def read_flame(path: Path) -> FlameModel:
    """Reads generic_model.pkl (2020), flame2023.pkl, or an npz with the same keys. Raises FlameFileError, OSError."""
    found = _read_arrays(path)
    template, faces = _array(path, found, "v_template"), _array(path, found, "f").astype(np.int64)
    V = len(template)
    _expect(path, "v_template", template, (V, 3))
    _expect(path, "f", faces, (len(faces), 3))
    shapedirs = _expect(path, "shapedirs", _array(path, found, "shapedirs"), (V, 3, NUM_IDENTITY + NUM_EXPRESSION))
    posedirs = _expect(path, "posedirs", _array(path, found, "posedirs"), (V, 3, NUM_POSE_FEATURES))
    regressor = _expect(path, "J_regressor", _array(path, found, "J_regressor"), (NUM_JOINTS, V))
    weights = _expect(path, "weights", _array(path, found, "weights"), (V, NUM_JOINTS))
    parents = tuple(_array(path, found, "kintree_table")[0].astype(np.int64).astype(np.int32).tolist())
    if parents != PARENTS:
        raise FlameFileError(f"{path}: kintree_table has the parents {parents}, FLAME with a jaw has {PARENTS}")
    if faces.min() < 0 or faces.max() >= V:
        raise FlameFileError(f"{path}: f names vertex {faces.max()}, there are {V}")

    basis = shapedirs.transpose(2, 0, 1)  # (400, V, 3)
    joint_basis = np.einsum("jv,cvk->cjk", regressor, basis)
    rig = Rig(
        template=_tensor(template),
        identity_basis=_tensor(basis[:NUM_IDENTITY]),
        expression_basis=_tensor(basis[NUM_IDENTITY:]),
        joints=_tensor(regressor @ template),
        joint_identity_basis=_tensor(joint_basis[:NUM_IDENTITY]),
        weights=_tensor(weights),
        joint_expression_basis=_tensor(joint_basis[NUM_IDENTITY:]),
        pose_basis=_tensor(posedirs.transpose(2, 0, 1)),
    )
    names = tuple(f"expression_{i:02}" for i in range(NUM_EXPRESSION))
    return FlameModel(rig, torch.from_numpy(faces), names)


def with_eyelids(model: FlameModel, left: Path, right: Path) -> FlameModel:
    """The model with two expressions more, which close the eyelids: l_eyelid.npy and r_eyelid.npy, each (V, 3) metres at 1.

    Eyelids move no joint. Raises FlameFileError, OSError.
    """
    V = len(model.rig.template)
    lids = []
    for path in (left, right):
        try:
            lids.append(_expect(path, "the array", np.load(path, allow_pickle=False).astype(np.float64), (V, 3)))
        except (ValueError, EOFError) as error:
            raise error if isinstance(error, FlameFileError) else FlameFileError(f"{path}: not an npy file ({error})") from None
    rig = model.rig
    assert rig.joint_expression_basis is not None
    extended = replace(
        rig,
        expression_basis=torch.cat([rig.expression_basis, _tensor(np.stack(lids))]),
        joint_expression_basis=torch.cat([rig.joint_expression_basis, torch.zeros(2, NUM_JOINTS, 3, dtype=torch.float64)]),
    )
    return FlameModel(extended, model.faces, (*model.expression_names, "eyelid_left", "eyelid_right"))


def _read_arrays(path: Path) -> dict[str, Any]:
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as stored:
                return dict(stored)
        found = load_pickle(path)
    except (PickleRefused, BadZipFile, EOFError, TypeError, ValueError, zlib.error) as error:
        words = str(error)
        raise FlameFileError(words if str(path) in words else f"{path}: {words}") from None
    if not isinstance(found, dict):
        raise FlameFileError(f"{path}: holds a {type(found).__name__}, a FLAME model is a dictionary")
    return found


def _array(path: Path, found: dict[str, Any], key: str) -> np.ndarray:
    if key not in found:
        raise FlameFileError(f"{path}: no {key}; it has {', '.join(map(str, found)) or 'nothing'}")
    value = found[key]
    if scipy.sparse.issparse(value):
        value = value.toarray()
    array = np.asarray(value)
    if array.dtype.kind not in "fiu":
        raise FlameFileError(f"{path}: {key} is of type {array.dtype}, numbers were expected")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise FlameFileError(f"{path}: {key} has values that are not finite")
    return array.astype(np.float64) if array.dtype.kind == "f" else array


def _expect(path: Path, key: str, array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if array.shape != shape:
        raise FlameFileError(f"{path}: {key} has the shape {array.shape}, FLAME's is {shape}")
    return array


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))
