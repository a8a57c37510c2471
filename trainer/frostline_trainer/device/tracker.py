"""Counts the bytes of live tensors, one allocation and one release at a time.

A `TorchDispatchMode` sees every operator's outputs, those of the backward pass and of the optimizer included. Each new
storage gets a weak reference, whose callback is the release: so the record has the order in which a caching allocator
would see the same requests, and the peak needs no sampling. It works alike on real tensors (a limit on a CPU, see
`emulation`) and on fake ones that have a size and no data (see `simulate`).

What a kernel allocates inside itself and frees before it returns is invisible here; `cuda` adds the large ones.
"""

from __future__ import annotations

import weakref
from array import array
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

CUDA_GRANULE = 512
"""Bytes to which the CUDA caching allocator rounds each request up (kMinBlockSize in CUDACachingAllocator.cpp)."""


class Trace:
    """Allocations and releases in order: `events` holds +n for the allocation of block n and -n for its release.

    `sizes[n]` is the number of bytes of block n as requested, not rounded; block 0 does not exist.
    """

    def __init__(self) -> None:
        self.events: array[int] = array("q")
        self.sizes: array[int] = array("q", [0])

    def allocate(self, size: int) -> int:
        """Records a new block and returns its number."""
        block = len(self.sizes)
        self.sizes.append(size)
        self.events.append(block)
        return block

    def release(self, block: int) -> None:
        """Records that `block` is free again."""
        self.events.append(-block)

    def peak(self, granule: int = CUDA_GRANULE) -> int:
        """Most bytes live at once, each block rounded up to a multiple of `granule`."""
        live = peak = 0
        for event in self.events:
            if event > 0:
                live += rounded(self.sizes[event], granule)
                peak = max(peak, live)
            else:
                live -= rounded(self.sizes[-event], granule)
        return peak


def rounded(size: int, granule: int) -> int:
    """`size` rounded up to a multiple of `granule`."""
    return (size + granule - 1) // granule * granule


class MemoryTracker(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records into `trace` every tensor storage that comes into being while the mode is active.

    `live` is the number of bytes held at this moment and `peak` its maximum, both in multiples of `granule`. Storages
    that were there before and are only looked at (a data set that is sliced) do not count unless named by `hold`.
    `on_allocate` is called with the live bytes after each allocation and may raise. With `only`, tensors on devices of
    another type do not count.
    """

    def __init__(
        self,
        *,
        granule: int = CUDA_GRANULE,
        record: bool = True,
        on_allocate: Callable[[int], None] | None = None,
        temporaries: Callable[[Any, tuple[Any, ...], dict[str, Any]], Iterable[int]] | None = None,
        only: str | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.granule = granule
        self.trace = Trace()
        self.live = 0
        self.peak = 0
        self.paused = False
        """While true, new storages are not counted: they are in host memory."""
        self._record = record
        self._on_allocate = on_allocate
        self._temporaries = temporaries
        self._only = only
        # Address of the StorageImpl -> (weak reference, block number, rounded bytes); 0 bytes for what does not count.
        self._known: dict[int, tuple[weakref.ref[Any], int, int]] = {}

    def hold(self, tensors: Iterable[torch.Tensor]) -> None:
        """Counts tensors that exist already, such as the parameters of a network built before."""
        for tensor in tensors:
            self._see(tensor, counted=True, held=True)

    def __torch_dispatch__(
        self,
        func: Any,
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Runs the operator and looks at its outputs."""
        kwargs = kwargs or {}
        if self.paused:
            return func(*args, **kwargs)
        if self._temporaries is not None:
            blocks = [self._add(size) for size in self._temporaries(func, args, kwargs)]
            result = func(*args, **kwargs)
            self._look(func, result)
            for block, size in blocks:
                self._drop(block, size)
            return result
        result = func(*args, **kwargs)
        self._look(func, result)
        return result

    def _look(self, func: Any, result: Any) -> None:
        if isinstance(result, torch.Tensor):
            self._see(result, counted=not _aliases(func, 0))
            return
        if result is None or isinstance(result, (int, float, bool)):
            return
        if isinstance(result, (tuple, list)):
            for index, leaf in enumerate(result):
                for tensor in (leaf,) if isinstance(leaf, torch.Tensor) else tree_leaves(leaf):
                    if isinstance(tensor, torch.Tensor):
                        self._see(tensor, counted=not _aliases(func, index))

    def _see(self, tensor: torch.Tensor, *, counted: bool, held: bool = False) -> None:
        if tensor.layout is not torch.strided:
            for part in _dense_parts(tensor):
                self._see(part, counted=counted, held=held)
            return
        try:
            storage = tensor.untyped_storage()
        except NotImplementedError:  # a wrapper without storage of its own
            return
        counted = counted and self._only in (None, tensor.device.type)
        address = storage._cdata
        known = self._known.get(address)
        if known is not None and (known[2] or not counted):
            return
        nbytes = storage.nbytes() if counted else 0
        if held:  # a slice of data that lies in host memory: on a device there would be the slice alone
            nbytes = min(nbytes, tensor.numel() * tensor.element_size())
        size = rounded(nbytes, self.granule)
        books = self._known
        block = 0

        def forget(_: object) -> None:
            entry = books.pop(address, None)
            if entry is not None and entry[2]:
                self._drop(entry[1], entry[2])

        # Known before it is counted: an observer that raises must find the books in order.
        reference = weakref.ref(storage, forget)
        if not size:
            books[address] = (reference, 0, 0)
            return
        if self._record:
            block = self.trace.allocate(nbytes)
        books[address] = (reference, block, size)
        self._grow(size)

    def _add(self, nbytes: int) -> tuple[int, int]:
        size = rounded(nbytes, self.granule)
        block = self.trace.allocate(nbytes) if self._record else 0
        self._grow(size)
        return block, size

    def _grow(self, size: int) -> None:
        self.live += size
        if self.live > self.peak:
            self.peak = self.live
        if self._on_allocate is not None:
            self._on_allocate(self.live)

    def _drop(self, block: int, size: int) -> None:
        self.live -= size
        if self._record:
            self.trace.release(block)


def _aliases(func: Any, index: int) -> bool:
    """Whether output `index` of an operator is a view of an input, or the input itself."""
    returns = func._schema.returns
    if not returns:
        return False
    return returns[min(index, len(returns) - 1)].alias_info is not None


def _dense_parts(tensor: torch.Tensor) -> list[torch.Tensor]:
    """The dense tensors that a sparse one is made of (embedding gradients with sparse=True)."""
    if tensor.layout is torch.sparse_coo:
        return [tensor._indices(), tensor._values()]
    return []
