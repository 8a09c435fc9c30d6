"""Pickles from outside: arrays come through, and nothing that a hostile one names is ever run."""

from __future__ import annotations

import pickle
import struct
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch

from avatar_models.pickles import PickleRefused, load_npy, load_pickle, loads_pickle

ARRAYS = {
    "floats": np.arange(6.0).reshape(2, 3),
    "fortran": np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
    "big": np.arange(4, dtype=">i4"),
    "none": np.zeros((0, 3)),
    "flags": np.array([True, False]),
    "words": np.array(["neck", "jaw"]),
    "number": np.float64(3.5),
}


@pytest.mark.parametrize("protocol", range(6))
def test_plain_values_come_through_every_protocol(protocol: int, tmp_path: Path) -> None:
    value = {
        "arrays": [*ARRAYS.values()],
        "text": ("lbs", None, True, 7, 2.5, b"\x00\xff"),
        "order": OrderedDict(a=1),
        "ids": {1, 2},
    }
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(value, protocol))
    found = load_pickle(tmp_path / "x.pkl")
    assert found["text"] == value["text"] and found["order"] == {"a": 1} and found["ids"] == {1, 2}
    for got, wanted in zip(found["arrays"], ARRAYS.values(), strict=True):
        assert got.dtype == wanted.dtype and np.array_equal(got, wanted)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_sparse_matrices_come_through(protocol: int) -> None:
    matrix = scipy.sparse.random(5, 40, 0.2, "csc", random_state=0)
    found = loads_pickle(pickle.dumps({"J": matrix}, protocol))["J"]
    assert np.array_equal(found.toarray(), matrix.toarray())


def call(name: str, argument: str = "touch /tmp/never") -> bytes:
    """A pickle that calls module.name(argument), as __reduce__ would write it."""
    module, _, function = name.rpartition(".")
    return f"c{module}\n{function}\n(S'{argument}'\ntR.".encode()


def stack_global(module: str, name: str) -> bytes:
    words = b"".join(b"\x8c" + bytes([len(word)]) + word.encode() for word in (module, name))
    return b"\x80\x04" + words + b"\x93."


class Evil:
    def __reduce__(self) -> Any:
        import os

        return os.system, ("touch /tmp/never",)


NUMPY_ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I%d\ntS'b'\ntR"
DTYPE = b"cnumpy\ndtype\n(S'%s'\nI0\nI1\ntR"

HOSTILE = {
    "os.system": (call("os.system"), "os.system"),
    "posix.system": (call("posix.system"), "posix.system"),
    "eval": (call("builtins.eval", "1"), "builtins.eval"),
    "old eval": (call("__builtin__.eval", "1"), "__builtin__.eval"),
    "exec": (call("builtins.exec", "1"), "builtins.exec"),
    "import": (call("builtins.__import__", "os"), "builtins.__import__"),
    "getattr": (call("builtins.getattr"), "builtins.getattr"),
    "popen": (call("subprocess.Popen"), "subprocess.Popen"),
    "partial": (call("functools.partial"), "functools.partial"),
    "loads": (call("pickle.loads"), "pickle.loads"),
    "numpy.load": (call("numpy.load"), "numpy.load"),
    "runpy": (call("runpy.run_path"), "runpy.run_path"),
    "dotted": (stack_global("numpy", "ndarray.__class__"), "numpy.ndarray.__class__"),
    "in a dict in a list": (pickle.dumps([{"shape": np.zeros(2), "x": [Evil()]}]), "system"),
    "object array": (pickle.dumps(np.array([{}, None], object)), "an array of objects of shape (2,)"),
    "object array with a payload": (pickle.dumps(np.array([Evil()], object)), "system"),
    "compound array": (pickle.dumps(np.zeros(2, [("a", "f4")])), "V4"),
    "array that is huge from the start": (NUMPY_ARRAY % 10**12 + b".", "starts with the shape"),
    "array without its bytes": (
        NUMPY_ARRAY % 0 + b"(I1\n(I1000000000000\nt" + DTYPE % b"f8" + b"I00\nS'x'\ntb.", "other bytes than it needs",
    ),
    "array of negative size": (
        NUMPY_ARRAY % 0 + b"(I1\n(I-1\nt" + DTYPE % b"f8" + b"I00\nS''\ntb.", "other bytes than it needs",
    ),
    "bytes that are not there": (b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"x.", "not a whole pickle"),
    "bytearray that is not there": (b"\x80\x05\x96" + struct.pack("<Q", 2**62) + b"x.", "not a whole pickle"),
    "nested without end": (b"(" * 50_000 + b"t" * 50_000 + b".", "nested deeper"),
    "a list of itself": (b"(lp0\ng0\na.", "nested deeper"),
    "old instance": (b"(ios\nsystem\n.", "INST"),
    "extension": (b"\x80\x02\x82\x01.", "EXT1"),
    "persistent": (b"Pid\n.", "PERSID"),
    "state for a function": (b"c_codecs\nencode\n(dS'x'\nI1\nsb.", "state for a function"),
    "state for a class": (b"cnumpy\nndarray\n(dS'x'\nI1\nsb.", "not a whole pickle"),
    "state for object": (b"cbuiltins\nobject\n(dS'x'\nI1\nsb.", "not a whole pickle"),
    "a class as a value": (b"cnumpy\nndarray\n.", "where a value was expected"),
    "another codec": (b"c_codecs\nencode\n(S'x'\nS'zip'\ntR.", "encoding 'zip'"),
    "cut short": (pickle.dumps(ARRAYS)[:-30], "not a whole pickle"),
    "not a pickle": (b"ply\nformat ascii 1.0\n", "not a whole pickle"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickles_are_refused_by_name(name: str, tmp_path: Path) -> None:
    data, words = HOSTILE[name]
    (tmp_path / "hostile.pkl").write_bytes(data)
    with pytest.raises(PickleRefused) as refused:
        load_pickle(tmp_path / "hostile.pkl")
    assert words in str(refused.value) and "hostile.pkl" in str(refused.value)
    assert not Path("/tmp/never").exists()


def test_what_is_there_twice_is_made_once() -> None:
    laughs: Any = np.zeros(1000)
    for _ in range(60):
        laughs = [laughs, laughs]
    found = loads_pickle(pickle.dumps(laughs))
    for _ in range(60):
        assert found[0] is found[1]
        found = found[0]


def test_tensors_of_torch_come_through_as_arrays() -> None:
    whole = torch.arange(24).reshape(2, 3, 4)
    value = {"whole": whole, "part": whole[:, 1:, ::2], "half": torch.ones(2, dtype=torch.float16), "one": torch.tensor(3.5)}
    for protocol in (2, 4):
        found = loads_pickle(pickle.dumps(value, protocol))
        for name, tensor in value.items():
            assert isinstance(found[name], np.ndarray) and np.array_equal(found[name], tensor.numpy())


def test_a_tensor_reaches_no_further_than_its_numbers() -> None:
    storage = torch.zeros(4)._typed_storage()

    class Far:
        def __reduce__(self) -> Any:
            return torch._utils._rebuild_tensor_v2, (storage, 2, (3,), (1,), False, OrderedDict())

    with pytest.raises(PickleRefused, match="size \\(3,\\) and stride \\(1,\\) with 4 numbers"):
        loads_pickle(pickle.dumps(Far()))

    class Multiplied:
        def __reduce__(self) -> Any:
            return torch._utils._rebuild_tensor_v2, (storage, 0, (10**10,), (0,), False, OrderedDict())

    with pytest.raises(PickleRefused, match="with 4 numbers"):
        loads_pickle(pickle.dumps(Multiplied()))

    class Empty:
        def __reduce__(self) -> Any:
            return torch._utils._rebuild_tensor_v2, (storage, 0, (10**15, 0), (1, 1), False, OrderedDict())

    class OverEmpty:
        """A tensor of a tensor that claims a length without having a number."""

        def __reduce__(self) -> Any:
            return torch._utils._rebuild_tensor_v2, (Empty(), 0, (2,), (10**14,), False, OrderedDict())

    with pytest.raises(PickleRefused, match="a torch tensor of size \\(2,\\)"):
        loads_pickle(pickle.dumps(OverEmpty()))

    class Nested:
        def __reduce__(self) -> Any:
            return torch.storage._load_from_bytes, (pickle.dumps(Path("x"), 2),)

    with pytest.raises(PickleRefused, match="a torch tensor whose numbers cannot be read"):
        loads_pickle(pickle.dumps(Nested()))


def test_npy_files_hold_an_array_or_one_object(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, np.arange(3))
    assert load_npy(path).tolist() == [0, 1, 2]
    np.save(path, {"a": np.arange(2), "b": [1.5]}, allow_pickle=True)  # type: ignore[arg-type]
    found = load_npy(path)
    assert found["a"].tolist() == [0, 1] and found["b"] == [1.5]
    for value, words in ((np.array([{}, {}], object), r"an array of \(2,\) objects"), ({"a": Path("x")}, "pathlib")):
        np.save(path, value, allow_pickle=True)  # type: ignore[arg-type]
        with pytest.raises(PickleRefused, match=words):
            load_npy(path)
    path.write_bytes(b"\x93NUMPY")
    with pytest.raises(PickleRefused, match=r"x\.npy"):
        load_npy(path)
