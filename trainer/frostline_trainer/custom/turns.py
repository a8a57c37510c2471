"""Several custom trials in one process, one at a time, sharing what their frozen prefixes compute.

Each entrypoint runs in a thread of its own, but only the one whose turn it is runs at all; the turn passes on where a
trial asks for the next batch's features. The first to ask computes them, the others get the same tensor. Random states
are swapped with the turn, so each trial sees the random numbers that it would see alone.
"""

from __future__ import annotations

import contextlib
import contextvars
import random
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from frostline_trainer.models.cut import run_prefix

Result = TypeVar("Result")


class _Abandoned(BaseException):
    """Another trial of the run failed; this one is not needed any more."""


class Turns:
    """Passes the turn round among `count` trials."""

    def __init__(self, count: int):
        self._count = count
        self._alive = list(range(count))
        self._current = 0
        self._failed: BaseException | None = None
        self._turn = threading.Condition()
        self._here = threading.local()
        self._owner: nn.Module | None = None
        self._latest: tuple[int, Tensor, Tensor, int] | None = None

    def run(self, functions: Sequence[Callable[[], Result]]) -> list[Result]:
        """Call all functions, taking turns, and return their results in order; the first error ends them all."""
        if self._count == 1:
            self._here.number, self._here.calls = 0, 0
            return [functions[0]()]
        results: dict[int, Result] = {}
        # Whatever watches over tensors here (a memory limit, a profile) watches over those of the threads as well.
        modes = _get_current_dispatch_mode_stack()

        def work(number: int) -> None:
            self._here.number, self._here.calls = number, 0
            try:
                self._wait()
                with contextlib.ExitStack() as stack:
                    for mode in modes:
                        stack.enter_context(mode)
                    results[number] = functions[number]()
            except _Abandoned:
                pass
            except BaseException as error:  # noqa: BLE001 - raised again by the thread that asked
                self._failed = self._failed or error
            finally:
                self._leave()

        threads = [
            threading.Thread(target=contextvars.copy_context().run, args=(work, i), name=f"trial-{i}")
            for i in range(self._count)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self._failed is not None:
            raise self._failed
        return [results[i] for i in range(self._count)]

    def share(self, prefix: nn.Module | None) -> Callable[[Tensor], Tensor]:
        """The prefix as one trial of the run calls it.

        Features are shared only between prefixes that are equal to the last bit, and for inputs that are; the weights
        of equal prefixes are then held once. A trial that differs gets its own: slower, never wrong.
        """
        if prefix is None:
            return lambda x: x
        if self._owner is None:
            self._owner = prefix
        same = prefix is self._owner or _adopt(prefix, self._owner)

        def features(x: Tensor) -> Tensor:
            if not same or self._count == 1:
                return run_prefix(prefix, x)
            number = self._here.calls
            self._here.calls += 1
            if number:
                self._pass_on()
            latest = self._latest
            if latest is not None and latest[0] == number and latest[2]._version == latest[3]:
                known = latest[1]
                if known is x or (known.shape == x.shape and known.dtype == x.dtype and torch.equal(known, x)):
                    return latest[2]
            made = run_prefix(prefix, x)
            self._latest = (number, x, made, made._version)
            return made

        return features

    def _pass_on(self) -> None:
        with self._turn:
            following = [i for i in self._alive if i > self._here.number] or self._alive
            if following[0] == self._here.number:
                return
            state = _random_state()
            self._current = following[0]
            self._turn.notify_all()
        self._wait()
        _set_random_state(state)

    def _wait(self) -> None:
        with self._turn:
            self._turn.wait_for(lambda: self._current == self._here.number)
        if self._failed is not None:
            raise _Abandoned

    def _leave(self) -> None:
        with self._turn:
            self._alive.remove(self._here.number)
            if self._alive:
                following = [i for i in self._alive if i > self._here.number] or self._alive
                self._current = following[0]
            self._turn.notify_all()


def _adopt(prefix: nn.Module, owner: nn.Module) -> bool:
    """Whether both hold the same tensors; then `prefix` gives its own up for the owner's."""
    mine = [*prefix.named_parameters(), *prefix.named_buffers()]
    theirs = dict([*owner.named_parameters(), *owner.named_buffers()])
    if len(mine) != len(theirs):
        return False
    for name, tensor in mine:
        other = theirs.get(name)
        if other is None or other.shape != tensor.shape or not torch.equal(other, tensor):
            return False
    for name, tensor in mine:
        tensor.data = theirs[name].data
    return True


def _random_state() -> tuple[Any, ...]:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else None
    return torch.get_rng_state(), random.getstate(), np.random.get_state(), cuda


def _set_random_state(state: tuple[Any, ...]) -> None:
    torch.set_rng_state(state[0])
    random.setstate(state[1])
    np.random.set_state(state[2])
    if state[3] is not None:
        torch.cuda.set_rng_state_all(state[3])
