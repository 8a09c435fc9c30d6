"""A GPU that is pretended, so that code for one is tested where there is none.

Tensors that were sent to `cuda` stay on the CPU and carry a mark. What CUDA refuses is refused: an operation on marked and
unmarked tensors, a CPU's generator for a marked tensor, numpy's view of a marked one. In place of gsplat this project's own
rasteriser draws. Inside of a backward pass nothing is looked at, and what it hands over has no mark.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode, _pop_mode_temporarily

from avatar_models.cameras import Camera
from avatar_models.gaussians import Gaussians
from avatar_models.splatting import Splats, cuda
from avatar_models.splatting.cpu import splat_cpu

GPU, CPU = torch.device("cuda", 0), torch.device("cpu")
MARK = "_on_pretended_gpu"
INDEXED = (Tensor.__getitem__, Tensor.__setitem__, Tensor.index_put_, Tensor.index_put)
"""An index may lie on the CPU."""
JOINS = (torch.stack, torch.cat, torch.concat, torch.hstack, torch.vstack, torch.dstack, torch.index_copy, Tensor.index_copy)
"""Not even a number may come from the CPU."""
ACROSS = (Tensor.copy_, Tensor.data.__set__, Tensor.grad.__set__, torch._has_compatible_shallow_copy_type)  # type: ignore[attr-defined]
WAITS = (
    Tensor.item, Tensor.tolist, Tensor.cpu, Tensor.__bool__, Tensor.__float__, Tensor.__int__, Tensor.__index__,
    Tensor.nonzero, torch.nonzero, torch.equal, Tensor.equal, torch.unique, torch.unique_consecutive,
    torch.masked_select, torch.bincount, torch.linalg.solve, torch.linalg.inv,
)  # fmt: skip
"""For these, and for a mask as an index, the CPU waits until the GPU has done all that it was given."""
MAKE_SUBCLASS = Tensor._make_subclass
SENDS = (Tensor.to, Tensor.cuda, Tensor.cpu)


class MixedDevices(RuntimeError):
    """What CUDA would refuse."""


class PretendedGpu(TorchFunctionMode):
    """Within it `cuda` is a device."""

    def __enter__(self) -> PretendedGpu:
        self.waits: list[str] = []
        self.stand_ins = ExitStack()
        self.stand_ins.enter_context(patch.object(Tensor, "_make_subclass", marked_like_its_data))
        self.stand_ins.enter_context(patch.object(cuda, "splat_cuda", self.splat))
        super().__enter__()
        return self

    def splat(self, *given: Any, **options: Any) -> Splats:
        self.waits.append("splat")  # gsplat counts what its tiles hold
        return splat_marked(*given, **options)

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self.stand_ins.close()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if waits(func, args):
            self.waits.append(name_of(func))
        if func == Tensor.device.__get__:  # type: ignore[attr-defined]
            return GPU if is_marked(args[0]) else func(*args)
        if func == Tensor.is_cuda.__get__:  # type: ignore[attr-defined]
            return is_marked(args[0])
        if func in SENDS:
            return sent(func, args, kwargs)
        if func == Tensor.__deepcopy__:
            return mark(func(*args, **kwargs), is_marked(args[0]))
        if func in ACROSS:
            return across(func, args, kwargs)
        where = on_gpu(args, kwargs, func)
        if "device" in kwargs and kwargs["device"] is not None:
            where = torch.device(kwargs["device"]).type == "cuda"
            kwargs["device"] = CPU
        generator = kwargs.get("generator")
        if where and generator is not None:
            raise MixedDevices(f"{name_of(func)}: a generator of the CPU draws nothing on a GPU")
        if where and func in (Tensor.numpy, Tensor.__array__):
            raise MixedDevices("a tensor on a GPU has no view in numpy: .cpu() first")
        found = func(*args, **kwargs)
        for tensor in tensors_in(found):
            mark(tensor, where)
        return found


def waits(func: Callable[..., Any], args: tuple[Any, ...]) -> bool:
    """Whether the CPU waits. What torch's own code sends from GPU to CPU it does not send there: it asks the true device."""
    if not any(map(is_marked, tensors_in(args))):
        return False
    return func in WAITS or (func in INDEXED and any(index.dtype == torch.bool for index in tensors_in(args[1:2])))


def is_marked(tensor: Tensor) -> bool:
    return getattr(tensor, MARK, False)


def mark(tensor: Tensor, on: bool) -> Tensor:
    setattr(tensor, MARK, on)
    return tensor


def splat_marked(gaussians: Gaussians, camera: Camera, background: Tensor, **options: Any) -> Splats:
    """What gsplat would draw, of tensors that all lie on the GPU."""
    if not on_gpu((tuple(vars(gaussians).values()), camera.K, camera.viewmat, background), {}, splat_marked):
        raise MixedDevices("splat_cuda: tensors of the CPU")
    with _pop_mode_temporarily():
        found = splat_cpu(gaussians, camera, background, **options)
    for tensor in tensors_in(vars(found)):
        mark(tensor, True)
    return found


def marked_like_its_data(*words: Any, **options: Any) -> Tensor:
    """A parameter, which no mode is asked about: its class, data and whether it learns."""
    return mark(MAKE_SUBCLASS(*words, **options), is_marked(words[1]))


def sent(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """A tensor on another device is another tensor."""
    tensor: Tensor = args[0]
    target, rest = is_marked(tensor), list(args[1:])
    if func is not Tensor.to:
        return mark(tensor.clone() if (func is Tensor.cuda) != target else tensor, func is Tensor.cuda)
    for place, value in enumerate(rest):
        if isinstance(value, (str, torch.device, int)) and not isinstance(value, bool):
            target, rest[place] = torch.device(value).type == "cuda", CPU
        elif isinstance(value, Tensor):
            target = is_marked(value)
    if kwargs.get("device") is not None:
        target, kwargs["device"] = torch.device(kwargs["device"]).type == "cuda", CPU
    found: Tensor = func(tensor, *rest, **kwargs)
    if found is tensor and target != is_marked(tensor):
        found = tensor.clone()
    return mark(found, target)


def across(func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """What may have its source on another device; data and gradient take theirs along."""
    tensor, source = args[0], args[1]
    found = func(*args, **kwargs)
    if func in ACROSS[1:3] and source is not None:
        mark(tensor, is_marked(source))
    return found


def on_gpu(args: tuple[Any, ...], kwargs: Mapping[str, Any], func: Callable[..., Any]) -> bool:
    """Whether an operation is one of the GPU's. Raises MixedDevices."""
    given = list(tensors_in(args[:1] if func in INDEXED else (args, kwargs)))
    if func in INDEXED and not is_marked(args[0]) and any(is_marked(tensor) for tensor in tensors_in(args[1:])):
        raise MixedDevices(f"{name_of(func)}: a tensor of the CPU and an index or a value of the GPU")
    marked = [is_marked(tensor) for tensor in given]
    numbers = func not in JOINS  # else a number may come from the CPU
    if any(marked) and not all(on or (numbers and tensor.ndim == 0) for on, tensor in zip(marked, given, strict=True)):
        shapes = ", ".join(f"{tuple(tensor.shape)} {'gpu' if on else 'cpu'}" for on, tensor in zip(marked, given, strict=True))
        raise MixedDevices(f"{name_of(func)}: {shapes}")
    return any(marked)


def tensors_in(values: Any) -> Iterator[Tensor]:
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, Mapping):
        yield from tensors_in(tuple(values.values()))
    elif isinstance(values, (tuple, list, set)):
        for value in values:
            yield from tensors_in(value)


def name_of(func: Callable[..., Any]) -> str:
    return getattr(func, "__name__", str(func))
