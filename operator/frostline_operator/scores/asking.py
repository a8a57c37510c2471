"""Asking for each study's values again and again, in threads of its own, so that no tick ever waits for Prometheus."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from frostline_operator.runtime.tally import Tally
from frostline_operator.scores.prometheus import PrometheusClient, QueryError
from frostline_operator.scores.queries import Form, Problem, Seen
from frostline_operator.scores.settling import Key, Settling, key_of, same

log = logging.getLogger(__name__)

_THREADS = 4
_ROUND_SECONDS = 0.1
_LONGEST_PAUSE = 30.0
"""After failures; never longer than a scrape interval, so that a value has its chance once Prometheus is back."""
_MARGIN_INTERVALS = 4
_LEAST_MARGIN_SECONDS = 60.0
"""A query looks back further than to the last answer: samples may arrive late, by remote write or a slow scrape."""
_LONGEST_WINDOW_SECONDS = 86400.0


@dataclass
class _Study:
    """One study's questions."""

    form: Form
    interval: float
    period: float
    back: float
    due: float = 0.0
    busy: bool = False
    resting: bool = False
    failures: int = 0
    first_answered_at: float | None = None
    answered_at: float | None = None
    known: dict[Key, Seen] = field(default_factory=dict)
    settling: Settling = field(default_factory=Settling)
    new: list[Seen] = field(default_factory=list)
    problem: Problem | None = None

    @property
    def settle_seconds(self) -> float:
        return self.interval if self.form.settles else 0.0

    def window(self, now: float, lookback: float) -> float:
        margin = max(_LEAST_MARGIN_SECONDS, _MARGIN_INTERVALS * self.interval)
        missed = max(lookback, self.back) if self.answered_at is None else now - self.answered_at
        return min(missed + margin, _LONGEST_WINDOW_SECONDS)


class Asker:
    """Puts each study's query to Prometheus, one at a time for each study.

    Args:
        client: to Prometheus.
        lookback: seconds that a study's first query looks back.
        woken: called with a study's uid when there is something new of it.
    """

    def __init__(self, client: PrometheusClient, lookback: float, woken: Callable[[str], None]) -> None:
        self.queries = Tally()
        """By how they went: Success, or the reason why not."""
        self._client = client
        self._lookback = lookback
        self._woken = woken
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="prometheus")
        self._lock = threading.Lock()
        self._studies: dict[str, _Study] = {}
        self._stopped = threading.Event()

    def start(self) -> None:
        """Begin."""
        threading.Thread(target=self._run, name="asker", daemon=True).start()

    def stop(self) -> None:
        """Ask no more."""
        self._stopped.set()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def follow(self, uid: str, form: Form, interval: float, period: float, back: float = 0.0) -> None:
        """Ask for a study's values from now on.

        Args:
            uid: of the study.
            form: what to ask.
            interval: seconds between the scrapes of its trainers.
            period: seconds between two queries.
            back: seconds since the end of the oldest run that still waits for its values.
        """
        with self._lock:
            known = self._studies.get(uid)
            if known is None or known.form != form:
                self._studies[uid] = _Study(form, interval, period, back)
                return
            known.interval, known.period, known.back = interval, period, back
            if known.resting:
                # While it rested no run was open, so there is nothing to look back for
                known.resting, known.due, known.answered_at = False, 0.0, time.monotonic()

    def rest(self, uid: str) -> None:
        """Ask nothing for a study without open runs."""
        with self._lock:
            if uid in self._studies:
                self._studies[uid].resting = True

    def forget(self, uid: str) -> None:
        """A study that is no more, or takes its values elsewhere."""
        with self._lock:
            self._studies.pop(uid, None)

    def take(self, uid: str) -> list[Seen]:
        """What was seen since the last call."""
        with self._lock:
            study = self._studies.get(uid)
            if study is None:
                return []
            found, study.new = study.new, []
            return found

    def asked(self, uid: str) -> bool:
        """Whether the study was asked for, whatever came of it, and what was shown has had time to settle."""
        with self._lock:
            study = self._studies.get(uid)
            if study is None or study.first_answered_at is None or study.answered_at is None:
                return study is not None and study.failures > 0
            # While it cannot answer, it has as long to come back
            latest = time.monotonic() if study.failures else study.answered_at
            return latest - study.first_answered_at >= study.settle_seconds

    def problem(self, uid: str) -> Problem | None:
        """What is wrong with the last answer, None where nothing is."""
        with self._lock:
            study = self._studies.get(uid)
            return None if study is None else study.problem

    def _run(self) -> None:
        while not self._stopped.wait(_ROUND_SECONDS):
            now = time.monotonic()
            with self._lock:
                due = [(u, s) for u, s in self._studies.items() if s.due <= now and not s.busy and not s.resting]
                for _, study in due:
                    study.busy = True
            for uid, study in due:
                self._pool.submit(self._ask, uid, study)

    def _ask(self, uid: str, study: _Study) -> None:
        began = time.monotonic()
        try:
            answer = self._client.query(study.form.query(study.window(began, self._lookback)))
            findings = study.form.read(answer)
            self._answered(uid, study, began, list(findings.seen), findings.problem)
        except QueryError as error:
            self._failed(uid, study, Problem(error.reason, str(error)))
        except Exception as error:
            log.exception("asking Prometheus")
            self._failed(uid, study, Problem("Unreachable", f"asking failed: {error!r}"))

    def _answered(self, uid: str, study: _Study, began: float, seen: list[Seen], problem: Problem | None) -> None:
        found = {key_of(one): one for one in seen}
        with self._lock:
            study.settling.put((one for key, one in found.items() if not same(study.known.get(key), one)), began)
            fresh = study.settling.take(began, study.settle_seconds)
            changed = study.problem != problem
            study.known, study.problem = found, problem
            study.new += fresh
            study.answered_at, study.failures = began, 0
            study.first_answered_at = began if study.first_answered_at is None else study.first_answered_at
            study.due, study.busy = time.monotonic() + study.period, False
        self.queries.add("Success" if problem is None else problem.reason)
        if fresh or changed:
            self._woken(uid)

    def _failed(self, uid: str, study: _Study, problem: Problem) -> None:
        with self._lock:
            changed = study.problem is None or study.problem.reason != problem.reason
            study.problem = problem
            longest = max(study.period, min(_LONGEST_PAUSE, study.interval))
            pause = min(longest, study.period * 2**study.failures)
            study.failures = min(study.failures + 1, 20)
            study.due, study.busy = time.monotonic() + pause, False
        self.queries.add(problem.reason)
        if changed:
            log.warning("Prometheus: %s", problem.message)
            self._woken(uid)
