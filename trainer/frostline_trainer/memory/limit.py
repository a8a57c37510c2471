"""A memory limit for runs on a CPU, so that out-of-memory happens there as it does on a card.

The limit is on the bytes of live tensors as the tracker counts them. Beyond it the allocation raises
`torch.OutOfMemoryError`, the very error that CUDA raises, so the trainer's handling (checkpoint nothing, report, exit
42) needs no second path.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

import torch

from frostline_trainer.memory.tracker import MemoryTracker


@contextlib.contextmanager
def memory_limit(limit: int | None, holding: Iterable[torch.Tensor] = ()) -> Iterator[MemoryTracker]:
    """Counts live tensor bytes while active and raises torch.OutOfMemoryError above `limit` bytes.

    `holding` names tensors that exist already and count from the start. Without a limit it only counts: `peak` of the
    tracker that it gives is then what the run needed. Counting costs some 10 microseconds per operator.
    """

    def check(live: int) -> None:
        if limit is not None and live > limit:
            raise torch.OutOfMemoryError(
                f"out of memory: {live} bytes of tensors are live, {live - limit} more than the limit of {limit}"
            )

    tracker = MemoryTracker(record=False, on_allocate=check)
    tracker.hold(holding)
    with tracker:
        yield tracker
