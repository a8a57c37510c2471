"""Reading the metrics of running trainers in threads of its own, so that no tick ever waits for a pod."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import httpx

from frostline_operator.scores.scrape import Exposition, release, scrape

log = logging.getLogger(__name__)

_THREADS = 8
_ROUND_SECONDS = 0.25
_PATIENT_FAILURES, _MOST_FAILURES = 4, 6
"""In a row: so many are a trainer that starts up; after so many nothing is to be expected, and it is said."""


@dataclass
class _Target:
    """One trainer."""

    address: str
    uid: str
    trials: frozenset[str]
    interval: float
    due: float = 0.0
    busy: bool = False
    seen: Exposition | None = None
    finished: bool = False
    failures: int = 0

    def pause(self) -> float:
        """Seconds until the next look; one that does not answer for long must not hold up the others."""
        return self.interval * 2.0 ** max(0, min(self.failures, _MOST_FAILURES) - _PATIENT_FAILURES)


class Watcher:
    """Scrapes every trainer it is told of, each at its study's interval.

    Args:
        woken: called with a study's uid when one of its runs has shown its last values.
    """

    def __init__(self, woken: Callable[[str], None]) -> None:
        self._woken = woken
        self._client = httpx.Client(timeout=2.0, trust_env=False)
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="scrape")
        self._lock = threading.Lock()
        self._targets: dict[tuple[str, str], _Target] = {}
        self._stopped = threading.Event()

    def start(self) -> None:
        """Begin."""
        threading.Thread(target=self._run, name="scraper", daemon=True).start()

    def stop(self) -> None:
        """End; runs go on."""
        self._stopped.set()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def watch(self, uid: str, run: str, address: str, trials: Sequence[str], interval: float) -> None:
        """Scrape a run from now on."""
        with self._lock:
            known = self._targets.get((uid, run))
            if known is None or known.address != address:
                self._targets[(uid, run)] = _Target(address, uid, frozenset(trials), interval)

    def take(self, uid: str, run: str) -> Exposition | None:
        """What was seen since the last call, None where nothing was."""
        with self._lock:
            target = self._targets.get((uid, run))
            if target is None:
                return None
            seen, target.seen = target.seen, None
            return seen

    def release(self, address: str) -> None:
        """Let a trainer go whose last values are kept."""
        if not self._stopped.is_set():
            self._pool.submit(release, self._client, address)

    def forget(self, uid: str, run: str | None = None) -> None:
        """Scrape a run, or a whole study, no more."""
        with self._lock:
            for key in [key for key in self._targets if key[0] == uid and run in (None, key[1])]:
                del self._targets[key]

    def _run(self) -> None:
        while not self._stopped.wait(_ROUND_SECONDS):
            now = time.monotonic()
            with self._lock:
                due = [t for t in self._targets.values() if t.due <= now and not t.busy and not t.finished]
                for target in due:
                    target.busy = True
            for target in due:
                self._pool.submit(self._look, target)

    def _look(self, target: _Target) -> None:
        last = False
        try:
            seen = scrape(self._client, target.address, target.uid)
            if seen is None:
                self._failed(target)
            else:
                last = bool(target.trials) and target.trials <= seen.finished
                with self._lock:
                    target.failures, target.finished = 0, last
                    target.seen = seen if seen.samples or seen.saved else target.seen
        except Exception:
            log.exception("scraping %s", target.address)
        finally:
            with self._lock:
                target.due = time.monotonic() + target.pause()
                target.busy = False
        if last:
            self._woken(target.uid)

    def _failed(self, target: _Target) -> None:
        with self._lock:
            target.failures += 1
        if target.failures == _MOST_FAILURES:
            log.warning(
                "%s does not answer on its metrics port; is something in between, such as a NetworkPolicy?",
                target.address,
            )
