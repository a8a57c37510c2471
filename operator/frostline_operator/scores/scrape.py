"""Reading trainers' /metrics over HTTP: the same exposition that Prometheus reads in a cluster.

A look takes one request; a `Scraper` takes it again and again, in threads of its own, so that no tick waits for a pod.
"""

from __future__ import annotations

import http.client
import io
import logging
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

from frostline_operator.engine.reconcile import Sample
from frostline_operator.runtime.backoff import Backoff
from frostline_operator.runtime.poller import Poller
from frostline_trainer.contract import MetricName

log = logging.getLogger(__name__)

_THREADS = 8
_PATIENT_FAILURES, _DOUBLINGS = 4, 2
"""So many failures in a row are a trainer that starts up; the interval then doubles, so many times."""
_SAID_AFTER = 6
"""Failures in a row, after which nothing is to be expected, and people are told."""
_SECONDS = 2.0
"""For one request, from the connection to the answer's last byte."""
LARGEST_ANSWER_BYTES = 1024 * 1024
_MOST_SERIES = 4000
"""Of trials, in one exposition: sixteen trials have some 150."""
_OURS = ("frostline_trial_", "# TYPE frostline_trial_")


@dataclass(frozen=True)
class Exposition:
    """What one trainer showed at one moment."""

    samples: tuple[Sample, ...] = ()
    finished: frozenset[str] = frozenset()
    """Trials that have their last value: nothing more will come of them in this run."""
    saved: Mapping[str, int] = field(default_factory=dict)
    """Tokens of each trial's last checkpoint on the way."""


def read(text: str, study_uid: str) -> Exposition:
    """The values of one study's trials in an exposition; whatever else is in it is left out.

    Raises:
        ValueError: the text is no Prometheus exposition, or has more series of trials than any trainer.
    """
    if text.lstrip()[:1] not in ("#", "_", ":", "") and not text.lstrip()[:1].isalpha():
        raise ValueError("no exposition, which begins with a comment or the name of a metric")
    lines = [line for line in text.splitlines() if line.startswith(_OURS)]
    if len(lines) > _MOST_SERIES:
        raise ValueError(f"{len(lines)} series of trials are too many")
    text = "\n".join(lines) + "\n"
    trials: dict[tuple[str, int], _Values] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = sample.labels
            if labels.get("study_uid") == study_uid and "trial" in labels and labels.get("rung", "").isdecimal():
                values = trials.setdefault((labels["trial"], int(labels["rung"])), _Values())
                values.by_name[sample.name] = sample.value
    samples = tuple(
        Sample(
            trial,
            rung,
            int(values.by_name.get(MetricName.TOKENS, 0)),
            values.by_name[MetricName.OBJECTIVE],
            values.by_name.get(MetricName.LOSS),
        )
        for (trial, rung), values in trials.items()
        if MetricName.OBJECTIVE in values.by_name
    )
    finished = frozenset(trial for (trial, _), values in trials.items() if values.by_name.get(MetricName.FINISHED) == 1)
    saved = {
        trial: int(values.by_name[MetricName.CHECKPOINT])
        for (trial, _), values in trials.items()
        if MetricName.CHECKPOINT in values.by_name
    }
    return Exposition(samples, finished, saved)


def scrape(address: str, study_uid: str) -> Exposition | None:
    """The values that a trainer shows now; None where it does not answer as it should, which says nothing about it."""
    try:
        return read(_request("GET", address, "/metrics").decode(errors="replace"), study_uid)
    except (OSError, http.client.HTTPException, ValueError):
        return None


def release(address: str) -> None:
    """Tell a trainer that its last values were read."""
    try:
        _request("POST", address, "/release")
    except (OSError, http.client.HTTPException, ValueError):
        return  # it has gone already, or will once it has lingered


def _request(method: str, address: str, path: str) -> bytes:
    """One request to a trainer, whose answer may be anything: bounded in bytes and, as a whole, in seconds.

    Timeouts of HTTP libraries are of one read each, so that who sends a byte a second has a thread for days.

    Raises:
        OSError: no answer in time, or more than `LARGEST_ANSWER_BYTES`.
        HTTPException, ValueError: it is no HTTP, or no success.
    """
    host, _, port = address.rpartition(":")
    until = time.monotonic() + _SECONDS
    with socket.create_connection((host.strip("[]"), int(port)), _SECONDS) as inner:
        connection = http.client.HTTPConnection(host.strip("[]"), int(port))
        connection.sock = _Bounded(inner, until)
        connection.request(method, path, headers={"Accept-Encoding": "identity", "Connection": "close"})
        answer = connection.getresponse()
        if answer.status != 200:
            raise ValueError(f"HTTP {answer.status}")
        return answer.read(LARGEST_ANSWER_BYTES)


class _Bounded:
    """What `http.client` uses of a socket, until a moment and up to so many bytes."""

    def __init__(self, inner: socket.socket, until: float) -> None:
        self._inner, self._until = inner, until

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Reader(self._inner, self._until))

    def sendall(self, data: bytes) -> None:
        self._inner.settimeout(max(0.001, self._until - time.monotonic()))
        self._inner.sendall(data)

    def close(self) -> None:
        """Nothing: `http.client` closes the socket of a server that will close it, and reads the answer after that."""


class _Reader(io.RawIOBase):
    """The bytes that come in time."""

    def __init__(self, inner: socket.socket, until: float) -> None:
        self._inner, self._until = inner, until
        self._left = LARGEST_ANSWER_BYTES + 65536

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        seconds = self._until - time.monotonic()
        if seconds <= 0:
            raise TimeoutError("the answer trickles")
        self._inner.settimeout(seconds)
        count = self._inner.recv_into(buffer)
        self._left -= count
        if self._left < 0:
            raise OSError("the answer is too large")
        return count


@dataclass
class _Values:
    by_name: dict[str, float] = field(default_factory=dict)


@dataclass
class _Target:
    """One trainer."""

    address: str
    trials: frozenset[str]
    interval: float
    take: Callable[[Exposition], None]
    backoff: Backoff
    """One that does not answer for long must not hold up the others."""


class Scraper:
    """Scrapes every trainer it is told of, each at its study's interval.

    Args:
        woken: called with a study's uid when one of its runs has shown its last values.
    """

    def __init__(self, woken: Callable[[str], None]) -> None:
        self._woken = woken
        self._poller = Poller("scrape", _THREADS)
        self._lock = threading.Lock()
        self._targets: dict[tuple[str, str], _Target] = {}

    def start(self) -> None:
        """Begin."""
        self._poller.start()

    def stop(self) -> None:
        """End; runs go on."""
        self._poller.stop()

    def watch(
        self,
        uid: str,
        run: str,
        address: str,
        trials: Sequence[str],
        interval: float,
        take: Callable[[Exposition], None],
    ) -> None:
        """Scrape a run from now on; nothing where it is scraped there already.

        Args:
            uid: of its study.
            run: its name.
            address: host and port of its metrics.
            trials: names of those it trains; once all have their last value it is scraped no more.
            interval: seconds between two looks.
            take: called with each exposition, from a thread of the scraper's, and never after the run is forgotten.
        """
        key = (uid, run)
        with self._lock:
            before = self._targets.get(key)
            if before is not None and before.address == address:
                return
            backoff = Backoff(interval, interval * 2.0**_DOUBLINGS, patient=_PATIENT_FAILURES)
            target = self._targets[key] = _Target(address, frozenset(trials), interval, take, backoff)
        self._poller.schedule(key, lambda: self._look(key, target))

    def release(self, address: str) -> None:
        """Let a trainer go whose last values are kept."""
        self._poller.schedule(("release", address), lambda: release(address))

    def forget(self, uid: str, run: str | None = None) -> None:
        """Scrape a run, or a whole study, no more."""
        with self._lock:
            keys = [key for key in self._targets if key[0] == uid and run in (None, key[1])]
            for key in keys:
                del self._targets[key]
        for key in keys:
            self._poller.cancel(key)

    def _look(self, key: tuple[str, str], target: _Target) -> float | None:
        exposition = scrape(target.address, key[0])
        if exposition is None:
            return self._failed(target)
        target.backoff.reset()
        with self._lock:
            if self._targets.get(key) is not target:
                return None
            target.take(exposition)
        if not target.trials or not target.trials <= exposition.finished:
            return target.interval
        self._woken(key[0])
        return None

    def _failed(self, target: _Target) -> float:
        pause = target.backoff.next()
        if target.backoff.failures == _SAID_AFTER:
            log.warning(
                "%s does not answer on its metrics port; is something in between, such as a NetworkPolicy?",
                target.address,
            )
        return pause
