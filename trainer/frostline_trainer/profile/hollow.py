"""Tensors that have a size, a type and an allocation, and no content.

Under `Hollow`, operators compute nothing: views are real views, and every other operator answers with fresh tensors of
the right shape. Unlike PyTorch's fake tensors, hollow ones are ordinary CPU tensors to everything above the dispatcher
(autograd, autocast, modules, optimizers), so all of that runs at its usual speed, which is what makes a profile take
seconds. All storages lie on one stretch of address space that nobody touches and that therefore takes no memory.

What an operator answers with is asked of `FakeTensorMode` once for each combination of operator and arguments, and then
remembered for the process: hollow tensors have by construction the shapes that fake tensors have.
"""

from __future__ import annotations

import mmap
import sys
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map
from torch.utils.flop_counter import flop_registry

aten = torch.ops.aten

_Make = Callable[[list[Tensor]], Any]
"""From an operator's tensor arguments to one of its outputs."""
_Recipe = tuple[Any, int]
"""The outputs (a `_Make`, a value, or a list of both), and the operator's FLOPs."""

_SMALLEST_REGION = 1 << 40
"""Bytes of address space to ask for at least; nothing is behind them."""


class EndlessError(Exception):
    """Code that waits for a value to change, which on hollow tensors none does."""


class Hollow(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While active, new tensors on the CPU are hollow. A number that is asked for is 1: finite, not zero and true.

    Args:
        most: operators after which to give up; None for no limit.

    Raises:
        torch._subclasses.fake_tensor.DynamicOutputShapeException: where the shape of an answer depends on values.
        EndlessError: after `most` operators.
    """

    def __init__(self, most: int | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = 0
        """Floating point operations of the matrix products, convolutions and attentions seen so far."""
        self._left = most if most is not None else sys.maxsize

    def __torch_dispatch__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """See the class."""
        self._left -= 1
        if self._left < 0:
            raise EndlessError("it goes on for too long on tensors without content")
        kwargs = kwargs or {}
        kind = _KINDS.get(func) or _kind(func)
        if kind == "view":
            return func(*args, **kwargs)
        if kind == "silent":
            return None
        if kind == "number":
            dtype = args[0].dtype
            return 1.0 if dtype.is_floating_point else dtype is torch.bool or 1
        if kind == "truth":
            return True
        tensors: list[Tensor] = []
        key = (func, _key(args, tensors), _key(kwargs, tensors) if kwargs else None)
        recipe = _RECIPES.get(key)
        if recipe is None:
            recipe = _RECIPES[key] = _ask(func, args, kwargs)
        outputs, flops = recipe
        self.flops += flops
        return _follow(outputs, tensors)


_KINDS: dict[Any, str] = {
    aten._unsafe_view.default: "view",
    aten._local_scalar_dense.default: "number",
    aten.equal.default: "truth",
}
_RECIPES: dict[Any, _Recipe] = {}


def _kind(func: Any) -> str:
    """What has to be done for an operator, by its schema."""
    schema = func._schema
    views = [r.alias_info is not None and not r.alias_info.is_write for r in schema.returns]
    if torch.Tag.inplace_view in func.tags or (views and all(views)):
        kind = "view"
    elif not schema.returns:
        kind = "silent"
    else:
        kind = "new"
    _KINDS[func] = kind
    return kind


def _key(value: Any, tensors: list[Tensor]) -> Any:
    """What of an argument decides about the answer; tensors are collected in the order in which they come."""
    if isinstance(value, Tensor):
        tensors.append(value)
        return value.shape, value.stride(), value.dtype
    kind = type(value)
    if kind is tuple or kind is list:
        return tuple([_key(part, tensors) for part in value])
    if kind is dict:
        return tuple([(name, _key(part, tensors)) for name, part in value.items()])
    if kind is int or kind is float or kind is bool:
        return kind, value
    return value


def _ask(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Recipe:
    """How PyTorch's fake tensors answer."""
    given: list[Tensor] = []

    with FakeTensorMode():

        def fake(value: Any) -> Any:
            if not isinstance(value, Tensor):
                return value
            twin = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device=value.device)
            given.append(twin)
            return twin

        fake_args, fake_kwargs = tree_map(fake, args), tree_map(fake, kwargs)
        answer = func(*fake_args, **fake_kwargs)
    storages = {twin.untyped_storage()._cdata: index for index, twin in enumerate(given)}

    def output(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        for index, twin in enumerate(given):
            if twin is value:
                return _same(index)
        index = storages.get(value.untyped_storage()._cdata, -1)
        if index >= 0:
            return _alias(index, value.shape, value.stride(), int(value.storage_offset()), value.dtype)
        return _fresh(value.shape, value.stride(), value.dtype, value.untyped_storage().nbytes())

    count = flop_registry.get(func._overloadpacket)
    flops = 0 if count is None else int(count(*fake_args, **fake_kwargs, out_val=answer))
    return (list(map(output, answer)) if isinstance(answer, (tuple, list)) else output(answer)), flops


def _follow(outputs: Any, tensors: list[Tensor]) -> Any:
    if type(outputs) is list:
        return tuple([output(tensors) if callable(output) else output for output in outputs])
    return outputs(tensors) if callable(outputs) else outputs


def _same(index: int) -> _Make:
    return lambda tensors: tensors[index]


def _alias(index: int, size: torch.Size, stride: tuple[int, ...], offset: int, dtype: torch.dtype) -> _Make:
    def make(tensors: list[Tensor]) -> Tensor:
        base = tensors[index]
        answer = torch.empty(0, dtype=dtype)
        return answer.set_(base.untyped_storage(), base.storage_offset() + offset, size, stride)

    return make


def _fresh(size: torch.Size, stride: tuple[int, ...], dtype: torch.dtype, nbytes: int) -> _Make:
    def make(_: list[Tensor]) -> Tensor:
        if not nbytes:
            return torch.empty_strided(size, stride, dtype=dtype)
        flat = torch.frombuffer(_region(nbytes), dtype=torch.uint8, count=nbytes)
        answer = torch.empty(0, dtype=dtype)
        return answer.set_(flat.untyped_storage(), 0, size, stride)

    return make


_regions: list[mmap.mmap] = []


def _region(nbytes: int) -> mmap.mmap:
    """Address space for `nbytes` at least; the same for all tensors, as none of them is ever read or written."""
    if not _regions or len(_regions[-1]) < nbytes:
        # Not reserved, so that no system refuses it for being larger than its memory.
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0x4000)
        _regions.append(mmap.mmap(-1, max(_SMALLEST_REGION, nbytes), flags=flags))
    return _regions[-1]
