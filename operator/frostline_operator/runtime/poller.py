"""Work that is done again and again beside the ticks, each piece when it is due, in a few threads."""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from frostline_operator.runtime.backoff import Backoff

log = logging.getLogger(__name__)

Work = Callable[[], float | None]
"""Returns the seconds until it is to be done again, None where it is done for good."""


@dataclass
class _Item:
    """One piece of work."""

    work: Work
    due: float | None
    """None while it is being done and nobody has asked for it anew."""
    busy: bool = False
    defects: Backoff = field(default_factory=lambda: Backoff(1.0, 30.0))


class Poller:
    """Threads that do what is due, the longest due first. Work of one key is never done by two threads at once.

    Work brings its own back-off: the pause that it returns. Work that raises is logged, and tried again ever more
    rarely, so that a defect in one study's work neither ends that of the others nor hides.

    Args:
        name: of the threads.
        threads: so many.
    """

    def __init__(self, name: str, threads: int) -> None:
        self._name, self._threads = name, threads
        self._changed = threading.Condition()
        self._items: dict[Hashable, _Item] = {}
        self._queue: list[tuple[float, int, Hashable]] = []
        """A heap of (due, number, key); entries that are not true any more are passed over."""
        self._numbers = itertools.count()
        self._stopped = False

    def start(self) -> None:
        """Begin, in threads that end with the process."""
        for number in range(self._threads):
            threading.Thread(target=self._run, name=f"{self._name}-{number}", daemon=True).start()

    def stop(self) -> None:
        """Begin nothing more; what is under way ends by itself."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def schedule(self, key: Hashable, work: Work, after: float = 0.0) -> None:
        """Have something done, and again after as many seconds as it returns.

        Args:
            key: of the work. What is scheduled under it already is replaced, and done at the earlier of both times.
            work: what to do.
            after: seconds from now.
        """
        with self._changed:
            due = time.monotonic() + after
            item = self._items.get(key)
            if item is None:
                item = self._items[key] = _Item(work, None)
            item.work = work
            self._put(key, item, due if item.due is None else min(due, item.due))

    def cancel(self, key: Hashable) -> None:
        """Do it no more; once it has begun it ends by itself."""
        with self._changed:
            self._items.pop(key, None)

    def _put(self, key: Hashable, item: _Item, due: float) -> None:
        item.due = due
        if not item.busy:
            heapq.heappush(self._queue, (due, next(self._numbers), key))
            self._changed.notify()

    def _run(self) -> None:
        while (taken := self._next()) is not None:
            key, item = taken
            try:
                pause = item.work()
                item.defects.reset()
            except Exception:
                pause = item.defects.next()
                log.exception("%s: %s failed; trying again in %.0f s", self._name, key, pause)
            with self._changed:
                item.busy = False
                if self._items.get(key) is not item:
                    continue
                again = [
                    due for due in (item.due, None if pause is None else time.monotonic() + pause) if due is not None
                ]
                if again:
                    self._put(key, item, min(again))
                else:
                    del self._items[key]

    def _next(self) -> tuple[Hashable, _Item] | None:
        with self._changed:
            while not self._stopped:
                wait: float | None = None
                while self._queue:
                    due, _, key = self._queue[0]
                    item = self._items.get(key)
                    if item is None or item.busy or item.due != due:
                        heapq.heappop(self._queue)
                        continue
                    wait = due - time.monotonic()
                    if wait > 0:
                        break
                    heapq.heappop(self._queue)
                    item.due, item.busy = None, True
                    return key, item
                self._changed.wait(wait)
            return None
