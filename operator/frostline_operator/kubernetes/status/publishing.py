"""Writing HPOTrials in threads of its own: they show what the journal says, so no tick waits for them.

A study's newest state is what counts: however many changes come while a write is under way, each trial is written once.
"""

from __future__ import annotations

import logging
from typing import Protocol

from frostline_operator.kubernetes.client.api import ApiError
from frostline_operator.runtime.backoff import Backoff
from frostline_operator.runtime.poller import Poller

log = logging.getLogger(__name__)

_THREADS = 2
_PAUSE_SECONDS = 1.0
"""Between two goes at one study: changes come in bursts, and meanwhile they come together."""
_LONGEST_PAUSE = 30.0


class Page(Protocol):
    """Something to be written, a part at a time."""

    def __hash__(self) -> int: ...

    def write(self) -> bool:
        """Write a part of what has changed; True once nothing is left."""


class Publisher:
    """Threads that write pages, those that waited longest first."""

    def __init__(self) -> None:
        self._poller = Poller("publish", _THREADS)
        self._backoffs: dict[Page, Backoff] = {}

    def start(self) -> None:
        """Begin."""
        self._poller.start()

    def stop(self) -> None:
        """Write no more; what is left is written by the next operator."""
        self._poller.stop()

    def submit(self, page: Page, at_once: bool = False) -> None:
        """Have a page written soon, or without the pause that collects changes."""
        self._poller.schedule(page, lambda: self._write(page), 0.0 if at_once else _PAUSE_SECONDS)

    def _write(self, page: Page) -> float | None:
        try:
            left = not page.write()
        except ApiError as error:
            pause = self._backoffs.setdefault(page, Backoff(2 * _PAUSE_SECONDS, _LONGEST_PAUSE)).next()
            log.warning("trials cannot be written: %s; trying again in %.0f s", error, pause)
            return pause
        self._backoffs.pop(page, None)
        return 0.0 if left else None
