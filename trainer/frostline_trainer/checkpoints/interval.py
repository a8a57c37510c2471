"""When a run writes checkpoints on the way, so that one that is killed without warning does not begin again."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator

from frostline_trainer.logs import log

LARGEST_SHARE = 0.05
"""Of a run's time that writing them may take: large suffixes, many trials or slow storage make them rarer."""


class Interval:
    """Tells when the next checkpoint on the way is due.

    Args:
        seconds: between the end of one and the beginning of the next; None for never.
        share: of the time that writing may take, less than `LARGEST_SHARE` where several take turns.
        clock: seconds, of which only differences are used.
    """

    def __init__(
        self, seconds: float | None, share: float = LARGEST_SHARE, clock: Callable[[], float] = time.monotonic
    ):
        self.seconds = math.inf if seconds is None else seconds
        self.share = share
        self._clock = clock
        self._due = clock() + self.seconds

    @property
    def due(self) -> bool:
        """Whether it is time."""
        return self._clock() >= self._due

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Write within this."""
        began = self._clock()
        yield
        ended = self._clock()
        self._due = ended + max(self.seconds, (ended - began) * (1 / self.share - 1))


@contextlib.contextmanager
def survived(trial: str) -> Iterator[None]:
    """Failing to write on the way is no reason to lose what is trained: it is said, and tried again later."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - every kind of storage has errors of its own
        log("checkpoint-not-written", trial=trial, error=f"{type(error).__name__}: {error}")
