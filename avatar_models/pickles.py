"""Reading pickles from outside without running anything that they name.

Model files and tracks of this field are pickles: instructions to a machine that may call any function. Here only the few names
that arrays are made of are known, each bound to a maker of this module that checks what it is given, and every instruction's
size is checked against the file before anything is made.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse

MAX_BYTES = 4 * 1024**3


class PickleRefused(ValueError):
    """The file is not a pickle of plain arrays; the message names the file and what was refused."""


def load_pickle(path: Path) -> Any:
    """What a pickle holds: numbers, strings, containers, arrays of numpy, chumpy (as numpy's) and scipy.sparse (as csc).

    Raises PickleRefused for anything else, OSError for a file that cannot be read.
    """
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise PickleRefused(f"{path}: {size} bytes are more than any model or track has; nothing was read")
    try:
        return loads_pickle(path.read_bytes())
    except PickleRefused as error:
        raise PickleRefused(f"{path}: {error}") from None


def load_npy(path: Path) -> Any:
    """What an npy file holds: its array, or the one object that was pickled into it, read as by :func:`load_pickle`.

    Raises PickleRefused, OSError.
    """
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(file)
            rest = file.read(MAX_BYTES + 1) if dtype.hasobject else b""
        if not dtype.hasobject:
            return np.load(path, allow_pickle=False)
        if shape != ():
            raise PickleRefused(f"an array of {shape} objects; one dictionary was expected")
        return loads_pickle(rest)
    except (EOFError, ValueError) as error:
        raise PickleRefused(f"{path}: {error}") from None


def loads_pickle(data: bytes) -> Any:
    """As :func:`load_pickle`, from the bytes of a pickle."""
    try:
        for opcode, _, _ in pickletools.genops(data):
            if opcode.name in REFUSED_OPCODES:
                raise PickleRefused(f"the pickle has the instruction {opcode.name}, which arrays do not need")
        return _plain(_Reader(io.BytesIO(data), encoding="latin1").load())
    except PickleRefused:
        raise
    except (pickle.UnpicklingError, ValueError, EOFError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
        raise PickleRefused(f"not a whole pickle of arrays ({type(error).__name__}: {error})") from None
    except MemoryError:
        raise PickleRefused("more numbers than there is memory for") from None
    except RecursionError:
        raise PickleRefused("containers nested deeper than any model or track has") from None


REFUSED_OPCODES = {"EXT1", "EXT2", "EXT4", "PERSID", "BINPERSID", "INST", "OBJ", "NEXT_BUFFER", "READONLY_BUFFER"}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        maker = MAKERS.get((module, name))
        if maker is None:
            raise PickleRefused(
                f"the pickle names {module}.{name}, which is not among what arrays are made of; nothing was run"
            )
        return maker


class _Array:
    """An array in the making: shape and bytes come with its state."""

    def __init__(self) -> None:
        self.array: Any = None

    def __setstate__(self, state: Any) -> None:
        _version, shape, dtype, fortran, raw = state
        if not isinstance(dtype, _Dtype):
            raise PickleRefused("an array without a type")
        if dtype.one_object:  # how numpy keeps a dictionary in an npy file
            if tuple(shape) != () or not isinstance(raw, list) or len(raw) != 1:
                raise PickleRefused(f"an array of objects of shape {shape}; only a single one is read")
            self.array = raw[0]  # made by this reader, as everything is
            return
        count = int(np.prod([int(n) for n in shape], dtype=object)) if shape else 1
        kind = dtype.resolved()
        raw = raw.encode("latin1") if isinstance(raw, str) else raw
        if not isinstance(raw, bytes | bytearray) or min([0, *map(int, shape)]) < 0 or len(raw) != count * kind.itemsize:
            raise PickleRefused(f"an array of shape {shape} and type {kind} with other bytes than it needs")
        self.array = np.frombuffer(raw, kind).reshape(shape, order="F" if fortran else "C").copy()


class _Dtype:
    """A type of numbers or fixed strings, or of the one object that an array of no dimensions may hold."""

    def __init__(self, spec: Any, *_: Any) -> None:
        self.spec = spec.decode("latin1") if isinstance(spec, bytes) else spec
        self.order = "="
        self.one_object = self.spec in ("O", "O4", "O8")
        if self.one_object:
            return
        if not isinstance(self.spec, str) or self.spec[:1] not in "bBiufcSU?" or not self.spec[1:].isdigit():
            raise PickleRefused(f"an array of type {self.spec!r}; only numbers and fixed strings are read")

    def __setstate__(self, state: Any) -> None:
        order = state[1].decode("latin1") if isinstance(state[1], bytes) else state[1]
        if order not in ("<", ">", "=", "|") or any(part is not None for part in state[2:5]):
            raise PickleRefused("an array of a compound type; only numbers and fixed strings are read")
        self.order = order  # checked above

    def resolved(self) -> np.dtype:
        return np.dtype(self.spec).newbyteorder(self.order)  # type: ignore[arg-type]


def _reconstruct(kind: Any, shape: Any, _typecode: Any) -> _Array:
    if kind is not _Array or tuple(shape) != (0,):
        raise PickleRefused(f"an array that starts with the shape {shape}")
    return _Array()


def _frombuffer(raw: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    """How protocol 5 writes an array."""
    made = _Array()
    made.__setstate__((1, shape, dtype, order == "F", bytes(raw)))
    return made


def _scalar(dtype: Any, raw: Any) -> Any:
    if not isinstance(dtype, _Dtype):
        raise PickleRefused("a number without a type")
    kind, data = dtype.resolved(), raw.encode("latin1") if isinstance(raw, str) else bytes(raw)
    if len(data) != kind.itemsize:
        raise PickleRefused(f"a number of type {kind} in {len(data)} bytes")
    return np.frombuffer(data, kind)[0]


class _Numbers:
    """The numbers of a torch tensor. A class of its own, so that no array of the pickle's making can stand in for one."""

    __slots__ = ("array",)

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    __setstate__ = None


def _storage(raw: Any) -> _Numbers:
    """The numbers of a torch tensor, which lie in the pickle as a file of torch's own."""
    import torch

    try:
        found = torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)
        return _Numbers(torch.tensor([], dtype=found.dtype).set_(found).numpy())
    except (pickle.UnpicklingError, RuntimeError, AttributeError, TypeError) as error:
        raise PickleRefused(f"a torch tensor whose numbers cannot be read ({str(error).splitlines()[0][:100]})") from None


def _tensor(numbers: Any, offset: int, size: Any, stride: Any, *_: Any) -> np.ndarray:
    """A torch tensor as an array. No more numbers come out than are there: a stride of 0 would multiply them."""
    size, stride, offset = tuple(int(n) for n in size), tuple(int(n) for n in stride), int(offset)
    if not isinstance(numbers, _Numbers) or len(size) != len(stride) or min([0, offset, *size, *stride]) < 0:
        raise PickleRefused(f"a torch tensor of size {size} and stride {stride}")
    array = numbers.array
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if array.ndim != 1 or math.prod(size) > len(array) or (0 not in size and last >= len(array)):
        raise PickleRefused(f"a torch tensor of size {size} and stride {stride} with {len(array)} numbers")
    if 0 in size:
        return np.empty(size, array.dtype)
    return np.lib.stride_tricks.as_strided(array[offset:], size, tuple(step * array.itemsize for step in stride)).copy()


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """How Python 3 writes bytes into old protocols."""
    if encoding != "latin1" or not isinstance(text, str):
        raise PickleRefused(f"text in the encoding {encoding!r}")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """How Python 3 writes b"" into old protocols."""
    return b""


class _Sparse:
    """A scipy sparse matrix in compressed columns."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.state = state

    def matrix(self) -> scipy.sparse.csc_matrix:
        parts = {name.lstrip("_"): value for name, value in self.state.items()}
        arrays = tuple(_plain(parts[name]) for name in ("data", "indices", "indptr"))
        found = scipy.sparse.csc_matrix(arrays, shape=tuple(int(n) for n in parts["shape"]))
        found.check_format(full_check=True)
        return found


class _Chumpy:
    """chumpy's array; its numbers are in `x`."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.state = state


def _new_object(kind: Any, _base: Any, _state: Any) -> Any:
    """copyreg._reconstructor, for the two kinds of object that are known."""
    if kind not in (_Sparse, _Chumpy):
        raise PickleRefused(f"an object of the kind {getattr(kind, '__name__', kind)!r}")
    return kind()


class _Object:
    """Stands for `object`; never made."""

    def __init__(self) -> None:
        raise PickleRefused("a bare object")

    __setstate__ = None


class _Function:
    """A function that a pickle may call, and whose attributes it cannot set."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self.call = call

    def __call__(self, *arguments: Any) -> Any:
        return self.call(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise PickleRefused("a state for a function")


def _plain(value: Any, done: dict[int, Any] | None = None) -> Any:
    """The value with makers replaced by what they made; what is there twice is made once."""
    done = {} if done is None else done
    if id(value) in done:
        return done[id(value)][0]
    if isinstance(value, _Array):
        if value.array is None:
            raise PickleRefused("an array without contents")
        made: Any = _plain(value.array, done)
    elif isinstance(value, _Sparse):
        made = value.matrix()
    elif isinstance(value, _Chumpy):
        made = np.asarray(_plain(value.state["x"], done))
    elif isinstance(value, dict):
        made = {key: _plain(item, done) for key, item in value.items()}
    elif isinstance(value, list | tuple):
        made = type(value)(_plain(item, done) for item in value)
    elif isinstance(value, _Dtype | _Object | _Function | type):
        raise PickleRefused(f"{type(value).__name__.strip('_').lower()} where a value was expected")
    else:
        return value
    done[id(value)] = made, value  # the value is kept, so that its id stays its own
    return made


MAKERS: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _Function(_encode),
    ("collections", "OrderedDict"): _Function(OrderedDict),
    ("chumpy.ch", "Ch"): _Chumpy,
    ("torch.storage", "_load_from_bytes"): _Function(_storage),
    ("torch._utils", "_rebuild_tensor_v2"): _Function(_tensor),
    **{(module, "_reconstructor"): _Function(_new_object) for module in ("copy_reg", "copyreg")},
    **{(module, "object"): _Object for module in ("__builtin__", "builtins")},
    **{(module, "bytes"): _Function(_no_bytes) for module in ("__builtin__", "builtins")},
    **{(module, "set"): _Function(set) for module in ("__builtin__", "builtins")},
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _Function(_reconstruct) for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _Function(_frombuffer) for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _Function(_scalar) for core in ("core", "_core")},
    **{(f"scipy.sparse.{module}", "csc_matrix"): _Sparse for module in ("csc", "_csc")},
}
