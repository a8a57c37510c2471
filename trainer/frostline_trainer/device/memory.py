"""How much memory a run holds on its device, and how much it may."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from frostline_trainer.device.emulation import memory_limit
from frostline_trainer.device.placement import placed


class DeviceMemory:
    """What the device says the run holds; on a CPU what is counted, where a limit asks for counting.

    Args:
        device: where the run computes.
        limit: bytes it may hold; None for all the device has.
    """

    def __init__(self, device: torch.device, limit: int | None):
        self._cuda = device if device.type == "cuda" else None
        self._limit = limit
        self._counted = 0
        if self._cuda is not None:
            if limit is not None:
                share = limit / torch.cuda.get_device_properties(self._cuda).total_memory
                torch.cuda.set_per_process_memory_fraction(min(1.0, share), self._cuda)
            torch.cuda.reset_peak_memory_stats(self._cuda)

    @contextlib.contextmanager
    def enforced(self, holding: Iterable[Tensor]) -> Iterator[None]:
        """Inside, `torch.OutOfMemoryError` is raised once more than the limit is held.

        CUDA's own allocator does so by itself. On a CPU live tensors are counted, those in `holding` from the start;
        counting costs time, so without a limit it is left out.
        """
        if self._cuda is not None or self._limit is None:
            yield
            return
        with memory_limit(self._limit) as tracker:
            placed(*holding)
            try:
                yield
            finally:
                self._counted = tracker.peak

    def peak_bytes(self) -> int:
        """Peak of the bytes allocated."""
        return torch.cuda.max_memory_allocated(self._cuda) if self._cuda is not None else self._counted

    def reserved_bytes(self) -> int:
        """Peak of the bytes the caching allocator held."""
        return torch.cuda.max_memory_reserved(self._cuda) if self._cuda is not None else 0

    def device_bytes(self) -> int:
        """The device's total memory, 0 where there is no accelerator."""
        return torch.cuda.get_device_properties(self._cuda).total_memory if self._cuda is not None else 0

    def name(self) -> str:
        """The accelerator's product name, or cpu."""
        return torch.cuda.get_device_name(self._cuda) if self._cuda is not None else "cpu"
