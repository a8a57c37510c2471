"""How much memory a run holds on its device, and how much it may."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from typing import Any

import torch


class DeviceMemory:
    """What the device says it holds; on a CPU what the tracker counts, where a limit asks for one."""

    def __init__(self, device: torch.device, tracker: Any = None):
        self._device, self._tracker = device, tracker

    def peak_bytes(self) -> int:
        """Peak of the bytes allocated."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device)
        return int(self._tracker.peak_bytes) if self._tracker is not None else 0

    def reserved_bytes(self) -> int:
        """Peak of the bytes the caching allocator held."""
        return torch.cuda.max_memory_reserved(self._device) if self._device.type == "cuda" else 0

    def device_bytes(self) -> int:
        """The device's total memory, 0 where there is no accelerator."""
        return torch.cuda.get_device_properties(self._device).total_memory if self._device.type == "cuda" else 0

    def name(self) -> str:
        """The accelerator's product name, or cpu."""
        return torch.cuda.get_device_name(self._device) if self._device.type == "cuda" else "cpu"


@contextlib.contextmanager
def device_memory(device: torch.device, limit: int | None) -> Iterator[DeviceMemory]:
    """Hold everything inside to `limit` bytes on the device.

    On CUDA the caching allocator is capped. On a CPU `frostline_trainer.memory.tracker` counts live tensors and raises
    `OutOfMemory`; without a limit nothing is counted, since counting costs time.
    """
    if device.type == "cuda":
        if limit is not None:
            total = torch.cuda.get_device_properties(device).total_memory
            torch.cuda.set_per_process_memory_fraction(min(1.0, limit / total), device)
        torch.cuda.reset_peak_memory_stats(device)
        yield DeviceMemory(device)
    elif limit is not None:
        tracker = importlib.import_module("frostline_trainer.memory.tracker")
        with tracker.enforce(limit) as counted:
            yield DeviceMemory(device, counted)
    else:
        yield DeviceMemory(device)
