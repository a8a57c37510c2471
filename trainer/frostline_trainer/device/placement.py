"""Where tensors live: the one place through which the trainer moves them, and says what stays in host memory.

On an accelerator PyTorch keeps device and host memory apart by itself. On a CPU both are the same memory. Whoever has
to tell them apart there, to enforce a declared limit or to simulate a GPU, installs an `Observer` (`emulation`);
otherwise nothing here does anything beyond `Tensor.to`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

Item = TypeVar("Item", bound=nn.Module | Tensor | None)


class Observer(Protocol):
    """Is told which tensors are on the device."""

    def moved(self, tensors: Iterable[Tensor]) -> None:
        """These are on the device from now on."""

    def host_memory(self) -> contextlib.AbstractContextManager[None]:
        """Tensors that come into being inside are in host memory."""


_observer: ContextVar[Observer | None] = ContextVar("frostline_placement_observer", default=None)
_NOBODY = contextlib.nullcontext()


@contextlib.contextmanager
def observed(observer: Observer) -> Iterator[None]:
    """Inside, and in this thread alone, `observer` is told of what is moved."""
    token = _observer.set(observer)
    try:
        yield
    finally:
        _observer.reset(token)


def to_device(item: Item, device: torch.device) -> Item:
    """A module (in place) or a tensor (from pinned memory without waiting for the copy) on the device.

    Args:
        item: what to move; None is given back.
        device: where to.
    """
    if item is None:
        return item
    if isinstance(item, nn.Module):
        placed(item.to(device))
        return item
    copy = item.to(device, non_blocking=True)
    placed(copy)
    return copy  # type: ignore[return-value]


def placed(*items: nn.Module | Tensor) -> None:
    """Say that these are on the device, however they came there."""
    observer = _observer.get()
    if observer is None:
        return
    for item in items:
        if isinstance(item, nn.Module):
            observer.moved(item.parameters())
            observer.moved(item.buffers())
        else:
            observer.moved([item])


def host_memory() -> contextlib.AbstractContextManager[None]:
    """Work inside on tensors in host memory: data, a network before it is moved, checkpoints, the prefix cache."""
    observer = _observer.get()
    return _NOBODY if observer is None else observer.host_memory()
