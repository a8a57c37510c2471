"""A memory limit for runs on a CPU, so that out-of-memory happens there as it does on a card.

The limit is on the bytes of live tensors as the tracker counts them. Beyond it the allocation raises
`torch.OutOfMemoryError`, the very error that CUDA raises, so the trainer's handling (report it, exit 42) needs no
second path. On a CPU "the device" and the host are the same memory, so the trainer says which is which: what happens
inside `on_host` does not count, and `on_device` names what moves over. Without a tracker both do nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from frostline_trainer.device.tracker import MemoryTracker

_current: ContextVar[MemoryTracker | None] = ContextVar("frostline_memory_tracker", default=None)


@contextlib.contextmanager
def counting(tracker: MemoryTracker) -> Iterator[MemoryTracker]:
    """Makes `tracker` the one that `on_host` and `on_device` speak to, and activates it."""
    token = _current.set(tracker)
    try:
        with tracker:
            yield tracker
    finally:
        _current.reset(token)


def carried() -> Callable[[], contextlib.AbstractContextManager[None]]:
    """What watches over this thread's tensors, for a thread that works in its stead.

    Call the answer in the other thread; while the context lasts, its tensors are counted (or hollow) like those here.
    """
    modes = _get_current_dispatch_mode_stack()
    tracker = _current.get()

    @contextlib.contextmanager
    def context() -> Iterator[None]:
        token = _current.set(tracker)
        try:
            with contextlib.ExitStack() as stack:
                for mode in modes:
                    stack.enter_context(mode)
                yield
        finally:
            _current.reset(token)

    return context


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


@contextlib.contextmanager
def on_host() -> Iterator[None]:
    """Tensors that come into being inside are host memory: data, a network before it is moved, the prefix cache."""
    tracker = _current.get()
    if tracker is None:
        yield
        return
    before, tracker.paused = tracker.paused, True
    try:
        yield
    finally:
        tracker.paused = before


def no_longer_on_host() -> None:
    """From here to the end of the surrounding `on_host`, new tensors count: a custom entrypoint has its model now."""
    tracker = _current.get()
    if tracker is not None:
        tracker.paused = False


def on_device(*moved: nn.Module | Tensor | None) -> None:
    """These, made inside `on_host`, are now on the device and count: a module's parameters and buffers, or a tensor."""
    tracker = _current.get()
    if tracker is None:
        return
    for item in moved:
        if isinstance(item, nn.Module):
            tracker.hold(item.parameters())
            tracker.hold(item.buffers())
        elif item is not None:
            tracker.hold([item])
