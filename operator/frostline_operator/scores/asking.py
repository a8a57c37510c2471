"""Asking for each study's values again and again, in threads of its own, so that no tick ever waits for Prometheus."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from prometheus_client import Counter

from frostline_operator.runtime.backoff import Backoff
from frostline_operator.runtime.poller import Poller
from frostline_operator.scores.prometheus import PrometheusClient, QueryError
from frostline_operator.scores.queries import Form, Problem, Reading, Settling

log = logging.getLogger(__name__)

_THREADS = 4
_LONGEST_PAUSE = 30.0
"""After failures; never longer than a scrape interval, so that a value has its chance once Prometheus is back."""
_MARGIN_INTERVALS = 4
_LEAST_MARGIN_SECONDS = 60.0
"""A query looks back further than to the last answer: samples may arrive late, by remote write or a slow scrape."""
_LONGEST_WINDOW_SECONDS = 86400.0

Taker = Callable[[Sequence[Reading]], None]
"""Where readings go, each once; called from a thread of the asker's, and never after the study is forgotten."""


@dataclass
class _Study:
    """One study's question."""

    form: Form
    take: Taker
    interval: float
    period: float
    back: float
    resting: bool = False
    failures: int = 0
    first_answered_at: float | None = None
    answered_at: float | None = None
    settling: Settling = field(default_factory=Settling)
    problem: Problem | None = None

    @property
    def settle_seconds(self) -> float:
        return self.interval if self.form.settles else 0.0

    def window(self, now: float, lookback: float) -> float:
        margin = max(_LEAST_MARGIN_SECONDS, _MARGIN_INTERVALS * self.interval)
        missed = max(lookback, self.back) if self.answered_at is None else now - self.answered_at
        return min(missed + margin, _LONGEST_WINDOW_SECONDS)

    def pause(self) -> float:
        """Seconds until the next query, after one that failed."""
        longest = max(self.period, min(_LONGEST_PAUSE, self.interval))
        return Backoff(self.period, longest, failures=self.failures).next()


class Asker:
    """Puts each study's query to Prometheus, one at a time for each study.

    Args:
        client: to Prometheus.
        lookback: seconds that a study's first query looks back.
        woken: called with a study's uid when there is something new of it.
    """

    def __init__(self, client: PrometheusClient, lookback: float, woken: Callable[[str], None]) -> None:
        self.queries = Counter(
            "frostline_operator_prometheus_queries",
            "Queries to Prometheus by how they went",
            ["outcome"],
            registry=None,
        )
        """Outcomes: Success, or the reason why not."""
        self._client = client
        self._lookback = lookback
        self._woken = woken
        self._poller = Poller("prometheus", _THREADS)
        self._lock = threading.Lock()
        self._studies: dict[str, _Study] = {}

    def start(self) -> None:
        """Begin."""
        self._poller.start()

    def stop(self) -> None:
        """Ask no more."""
        self._poller.stop()

    def follow(self, uid: str, form: Form, take: Taker, interval: float, period: float, back: float = 0.0) -> None:
        """Ask for a study's values from now on.

        Args:
            uid: of the study.
            form: what to ask.
            take: where its readings go.
            interval: seconds between the scrapes of its trainers.
            period: seconds between two queries.
            back: seconds since the end of the oldest run that still waits for its values.
        """
        with self._lock:
            study = self._studies.get(uid)
            if study is None or study.form != form:
                study = self._studies[uid] = _Study(form, take, interval, period, back)
            elif study.resting:
                # While it rested no run was open, so there is nothing to look back for
                study.resting, study.answered_at = False, time.monotonic()
            else:
                study.interval, study.period, study.back = interval, period, back
                return
            study.interval, study.period, study.back = interval, period, back
        self._poller.schedule(uid, lambda: self._ask(uid, study))

    def rest(self, uid: str) -> None:
        """Ask nothing for a study without open runs."""
        with self._lock:
            if uid in self._studies:
                self._studies[uid].resting = True
        self._poller.cancel(uid)

    def forget(self, uid: str) -> None:
        """A study that is no more, or takes its values elsewhere."""
        with self._lock:
            self._studies.pop(uid, None)
        self._poller.cancel(uid)

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

    def _ask(self, uid: str, study: _Study) -> float:
        began = time.monotonic()
        try:
            answer = self._client.query(study.form.query(study.window(began, self._lookback)))
            findings = study.form.read(answer)
            return self._answered(uid, study, began, findings.readings, findings.problem)
        except QueryError as error:
            return self._failed(uid, study, Problem(error.reason, str(error)))
        except Exception as error:
            log.exception("asking Prometheus")
            return self._failed(uid, study, Problem("Unreachable", f"asking failed: {error!r}"))

    def _answered(
        self, uid: str, study: _Study, began: float, readings: Sequence[Reading], problem: Problem | None
    ) -> float:
        with self._lock:
            fresh = study.settling.take(readings, began, study.settle_seconds)
            changed = study.problem != problem
            study.problem = problem
            if fresh and self._studies.get(uid) is study:
                study.take(fresh)  # before `asked` says that they are there
            study.answered_at, study.failures = began, 0
            study.first_answered_at = began if study.first_answered_at is None else study.first_answered_at
        self.queries.labels("Success" if problem is None else problem.reason).inc()
        if fresh or changed:
            self._woken(uid)
        return study.period

    def _failed(self, uid: str, study: _Study, problem: Problem) -> float:
        with self._lock:
            changed = study.problem is None or study.problem.reason != problem.reason
            study.problem = problem
            pause = study.pause()
            study.failures = min(study.failures + 1, 20)
        self.queries.labels(problem.reason).inc()
        if changed:
            log.warning("Prometheus: %s", problem.message)
            self._woken(uid)
        return pause
