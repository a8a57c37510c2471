"""Writing HPOTrials in threads of its own: they show what the journal says, so no tick waits for them.

A study's newest state is what counts: however many changes come while a write is under way, each trial is written once.
"""

from __future__ import annotations

import collections
import logging
import threading
import time
from typing import Protocol

from frostline_operator.kubernetes.client.api import ApiError

log = logging.getLogger(__name__)

_THREADS = 2
_PAUSE_SECONDS = 1.0
"""Between two goes at one study: changes come in bursts, and meanwhile they come together."""
_LONGEST_PAUSE = 30.0


class Page(Protocol):
    """Something to be written, a part at a time."""

    def write(self) -> bool:
        """Write a part of what has changed; True once nothing is left."""


class Publisher:
    """Threads that write pages, those that waited longest first."""

    def __init__(self) -> None:
        self._ready = threading.Condition()
        self._due: collections.OrderedDict[Page, float] = collections.OrderedDict()
        self._pauses: dict[Page, float] = {}
        self._stopped = False

    def start(self) -> None:
        """Begin, in threads that end with the process."""
        for number in range(_THREADS):
            threading.Thread(target=self._run, name=f"publish-{number}", daemon=True).start()

    def stop(self) -> None:
        """Write no more; what is left is written by the next operator."""
        with self._ready:
            self._stopped = True
            self._ready.notify_all()

    def submit(self, page: Page, at_once: bool = False) -> None:
        """Have a page written soon, or without the pause that collects changes."""
        with self._ready:
            due = time.monotonic() + (0.0 if at_once else _PAUSE_SECONDS)
            self._due[page] = min(due, self._due.get(page, due))
            self._ready.notify()

    def _run(self) -> None:
        while (page := self._next()) is not None:
            try:
                left, pause = not page.write(), 0.0
                self._pauses.pop(page, None)
            except ApiError as error:
                left = True
                pause = self._pauses[page] = min(_LONGEST_PAUSE, self._pauses.get(page, _PAUSE_SECONDS) * 2)
                log.warning("trials cannot be written: %s; trying again in %.0f s", error, pause)
            except Exception:
                # A defect in one study's trials must not end the writing of all others.
                log.exception("trials cannot be written")
                left = False
            if left:
                with self._ready:
                    self._due.setdefault(page, time.monotonic() + pause)
                    self._ready.notify()

    def _next(self) -> Page | None:
        with self._ready:
            while not self._stopped:
                page = min(self._due, key=self._due.__getitem__, default=None)
                wait = None if page is None else self._due[page] - time.monotonic()
                if page is not None and wait is not None and wait <= 0:
                    del self._due[page]
                    return page
                self._ready.wait(wait)
            return None
