"""FLAME files of every format, made up but well formed, against the formula written out in float64 numpy."""

from __future__ import annotations

import pickle
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch
from scipy.spatial.transform import Rotation

from avatar_models.heads.flame import FlameFileError, read_flame, with_eyelids
from avatar_models.heads.skinning import pose

V = 60


def flame_arrays(seed: int = 0) -> dict[str, Any]:
    """What a FLAME file holds, with random numbers of its sizes (but for the number of vertices)."""
    rng = np.random.default_rng(seed)
    weights = rng.random((V, 5))
    regressor = scipy.sparse.random(5, V, 0.2, "csc", random_state=seed)
    return {
        "v_template": rng.normal(size=(V, 3)) * 0.1,
        "f": rng.integers(0, V, (100, 3)).astype(np.uint32),
        "shapedirs": rng.normal(size=(V, 3, 400)) * 1e-3,
        "posedirs": rng.normal(size=(V, 3, 36)) * 1e-3,
        "J_regressor": regressor,
        "weights": weights / weights.sum(1, keepdims=True),
        "kintree_table": np.array([[4294967295, 0, 1, 1, 1], range(5)], np.uint32),
        "J": rng.normal(size=(5, 3)),
        "bs_style": "lbs",
        "bs_type": "lrotmin",
    }


def with_chumpy(arrays: dict[str, Any], path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As FLAME 2020 is: several arrays are chumpy's, written by Python 2's protocol."""
    module = types.ModuleType("chumpy.ch")

    class Ch:
        def __init__(self, x: np.ndarray) -> None:
            self.x, self._dirty_vars, self._itr = x, {"x"}, None

    Ch.__module__, Ch.__qualname__ = "chumpy.ch", "Ch"
    module.Ch = Ch  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "chumpy", types.ModuleType("chumpy"))
    monkeypatch.setitem(sys.modules, "chumpy.ch", module)
    boxed = {name: Ch(arrays[name]) for name in ("v_template", "shapedirs", "posedirs", "weights", "J")}
    path.write_bytes(pickle.dumps({**arrays, **boxed}, 2))
    monkeypatch.undo()


def write(kind: str, arrays: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = folder / ("flame.npz" if kind == "npz" else "flame.pkl")
    if kind == "chumpy":
        with_chumpy(arrays, path, monkeypatch)
    elif kind == "npz":
        np.savez(path, **{**arrays, "J_regressor": arrays["J_regressor"].toarray()})
    else:
        path.write_bytes(pickle.dumps(arrays, int(kind)))
    return path


def by_the_formula(arrays: dict[str, Any], betas: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """One frame, vertex by vertex with 4 x 4 matrices: Li et al. 2017, equations 1 to 5. theta (5, 3) from the root on."""
    R = Rotation.from_rotvec(theta).as_matrix()
    shaped = arrays["v_template"] + arrays["shapedirs"] @ betas
    J = arrays["J_regressor"] @ shaped
    posed = shaped + arrays["posedirs"] @ (R[1:] - np.eye(3)).ravel()
    parents = (None, 0, 1, 1, 1)
    world: list[np.ndarray] = []
    for j, parent in enumerate(parents):
        local = np.eye(4)
        local[:3, :3] = R[j]
        local[:3, 3] = J[j] - (0 if parent is None else J[parent])
        world.append(local if parent is None else world[parent] @ local)
    for j in range(5):
        world[j] = world[j] @ np.block([[np.eye(3), -J[j][:, None]], [np.zeros((1, 3)), np.ones((1, 1))]])
    out = np.empty((V, 3))
    for v in range(V):
        T = sum(arrays["weights"][v, j] * world[j] for j in range(5))
        out[v] = (T @ np.append(posed[v], 1.0))[:3]
    return out


@pytest.mark.parametrize("kind", ["chumpy", "2", "4", "5", "npz"])
def test_every_format_poses_as_the_formula_says(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = flame_arrays()
    model = read_flame(write(kind, arrays, tmp_path, monkeypatch))
    assert np.array_equal(model.faces.numpy(), arrays["f"])
    rng = np.random.default_rng(1)
    betas, theta = rng.normal(size=(3, 400)), rng.normal(size=(3, 5, 3)) * 0.6
    theta[:, 0] = 0.0  # the head's rigid motion is the camera's here
    wanted = np.stack([by_the_formula(arrays, b, t) for b, t in zip(betas, theta, strict=True)])
    for dtype, error in ((torch.float64, 1e-13), (torch.float32, 1e-6)):
        b, t = torch.tensor(betas, dtype=dtype), torch.tensor(theta, dtype=dtype)
        found = pose(model.rig.to(dtype=dtype), b[:, :300], b[:, 300:], t[:, 1], t[:, 2], t[:, 3:].flatten(1))
        assert np.abs(found.numpy() - wanted).max() < error * np.abs(wanted).max()


def test_eyelids_are_two_expressions_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = read_flame(write("5", flame_arrays(), tmp_path, monkeypatch))
    lids = np.random.default_rng(2).normal(size=(2, V, 3)) * 1e-3
    for name, lid in zip("lr", lids, strict=True):
        np.save(tmp_path / f"{name}_eyelid.npy", lid)
    model = with_eyelids(model, tmp_path / "l_eyelid.npy", tmp_path / "r_eyelid.npy")
    assert model.expression_names[-2:] == ("eyelid_left", "eyelid_right")
    closed = torch.zeros(1, 102, dtype=torch.float64)
    closed[0, 100:] = torch.tensor([0.25, 1.0])
    still = [torch.zeros(1, n, dtype=torch.float64) for n in (3, 3, 6)]
    found = pose(model.rig, torch.zeros(1, 300, dtype=torch.float64), closed, *still)[0] - model.rig.template
    assert torch.allclose(found, torch.tensor(0.25 * lids[0] + lids[1]), atol=1e-15)
    np.save(tmp_path / "short.npy", lids[0][:-1])
    with pytest.raises(FlameFileError, match=r"short.npy: .*shape \(59, 3\).*\(60, 3\)"):
        with_eyelids(model, tmp_path / "short.npy", tmp_path / "r_eyelid.npy")


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("shapedirs", np.zeros((V, 3, 150)), r"shapedirs has the shape \(60, 3, 150\), FLAME's is \(60, 3, 400\)"),
        ("kintree_table", np.array([[4294967295, 0, 1, 1], range(4)], np.uint32), r"parents \(-1, 0, 1, 1\)"),
        ("v_template", np.full((V, 3), np.nan), "v_template has values that are not finite"),
        ("f", np.full((4, 3), V, np.uint32), "f names vertex 60, there are 60"),
        ("weights", None, "no weights; it has v_template"),
        ("posedirs", "text", "posedirs is of type"),
    ],
)
def test_what_is_wrong_with_a_file_is_named(
    key: str, value: Any, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = {**flame_arrays(), key: value}
    path = write("5", {name: array for name, array in arrays.items() if array is not None}, tmp_path, monkeypatch)
    with pytest.raises(FlameFileError, match=words) as error:
        read_flame(path)
    assert str(path) in str(error.value)
    path.write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(FlameFileError, match=r"flame\.pkl"):
        read_flame(path)
    with pytest.raises(FlameFileError, match=r"flame\.npz"):
        read_flame(path.rename(tmp_path / "flame.npz"))
