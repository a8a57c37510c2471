"""A device with a memory of its own, emulated on a CPU: for a declared limit, and for the memory profile.

What counts is the bytes of live tensors, as the tracker sees them. Beyond a limit the allocation raises
`torch.OutOfMemoryError`, the very error that CUDA raises, so the trainer's handling (report it, exit 42) needs no
second path. What the trainer moves to the device and what it keeps in host memory comes from `placement`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from frostline_trainer.device.placement import observed
from frostline_trainer.device.tracker import MemoryTracker


class _Counting:
    """The observer of placement that has a tracker count."""

    def __init__(self, tracker: MemoryTracker):
        self._tracker = tracker

    def moved(self, tensors: Iterable[Tensor]) -> None:
        """These count from now on."""
        self._tracker.hold(tensors)

    @contextlib.contextmanager
    def host_memory(self) -> Iterator[None]:
        """What comes into being inside does not count."""
        before, self._tracker.paused = self._tracker.paused, True
        try:
            yield
        finally:
            self._tracker.paused = before


@contextlib.contextmanager
def counting(tracker: MemoryTracker) -> Iterator[MemoryTracker]:
    """Inside, `tracker` is active and told what is on the device."""
    with observed(_Counting(tracker)), tracker:
        yield tracker


@contextlib.contextmanager
def memory_limit(limit: int | None) -> Iterator[MemoryTracker]:
    """Counts live tensor bytes while active and raises torch.OutOfMemoryError above `limit` bytes.

    Without a limit it only counts: `peak` of the tracker that it gives is then what the run needed. Counting costs some
    10 microseconds per operator.
    """

    def check(live: int) -> None:
        if limit is not None and live > limit:
            raise torch.OutOfMemoryError(
                f"out of memory: {live} bytes of tensors are live, {live - limit} more than the limit of {limit}"
            )

    with counting(MemoryTracker(record=False, on_allocate=check)) as tracker:
        yield tracker
