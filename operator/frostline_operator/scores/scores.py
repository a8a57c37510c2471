"""The values of one study: the one place that holds them between its trainers and the loop.

A value's way: a trainer's /metrics is read by the `Scraper`, or by a Prometheus that the `Asker` asks; either hands it
to the study's `Scores`; each tick takes it from there in a `RunView`, and the loop books it (`engine.reconcile`).
Nothing is decided here.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from frostline_operator.api.metrics import MetricsSpec
from frostline_operator.api.quantity import parse_duration
from frostline_operator.api.study import HPOStudySpec
from frostline_operator.engine.reconcile import INTERVALS, Patience, Sample
from frostline_operator.engine.state import Run, StudyState
from frostline_operator.scores.asking import Asker
from frostline_operator.scores.queries import CustomQuery, Form, Reading, TargetLabels, TrainerSeries
from frostline_operator.scores.scrape import Exposition, Scraper

_SCRAPE_SECONDS = 5.0
"""Between two looks at a trainer, where the study does not say."""
DISCOVERY_SECONDS = 5.0
"""Prometheus takes up new targets every five seconds at most, so that a short-lived pod must stay so much longer."""
_MOST_VALUES = 16_384
"""Of one run, the newest; a trainer shows some four of each of sixteen trials."""
_LEAST_PERIOD, _LONGEST_PERIOD = 1.0, 15.0


@dataclass(frozen=True)
class Availability:
    """Whether the values of a study come through Prometheus, as a condition says it."""

    status: bool
    reason: str
    message: str


@dataclass(frozen=True)
class ScoredStudy:
    """Whose values they are, as trainers' labels say it."""

    name: str
    namespace: str
    uid: str


@dataclass(frozen=True)
class ScoreSettings:
    """What of the operator's settings tells when values come, in seconds, and from where."""

    interval: float
    """Between two scrapes by Prometheus, where the study does not say."""
    linger: float
    """That a trainer stays up to be read directly."""
    tick: float
    """Between two looks at the study."""
    target: TargetLabels


@dataclass
class _RunValues:
    """What is known of one open run."""

    where: str = ""
    """Host and port of its trainer."""
    samples: dict[tuple[str, int], Sample] = field(default_factory=dict)
    """By trial and tokens."""
    fresh: list[Sample] = field(default_factory=list)
    """Of these, what no tick has taken yet."""
    finished: set[str] = field(default_factory=set)
    """Trials that have their last value."""
    saved: dict[str, int] = field(default_factory=dict)
    """Tokens of checkpoints on the way, by trial, that no tick has taken yet."""

    def put(self, samples: Sequence[Sample], finished: Iterable[str]) -> None:
        self.samples.update({(sample.trial, sample.tokens): sample for sample in samples})
        self.fresh = [*self.fresh, *samples][-_MOST_VALUES:]
        self.finished.update(finished)
        for key in list(self.samples)[: max(0, len(self.samples) - _MOST_VALUES)]:
            del self.samples[key]

    def clear(self) -> None:
        """What another source said counts no more."""
        self.samples.clear()
        self.fresh.clear()
        self.finished.clear()


class Scores:
    """The values of one study.

    Args:
        study: whose.
        scraper: reads trainers.
        asker: asks Prometheus, None where the operator knows of none.
        settings: of the operator.
    """

    def __init__(self, study: ScoredStudy, scraper: Scraper, asker: Asker | None, settings: ScoreSettings) -> None:
        self._study, self._scraper, self._asker, self._settings = study, scraper, asker, settings
        self._metrics: MetricsSpec | None = None
        """Of the study, as of the last tick."""
        self._form: Form | None = None
        self._asked = False
        self._lock = threading.Lock()
        """Guards what the scraper's and the asker's threads write: the two that follow."""
        self._runs: dict[str, _RunValues] = {}
        self._inbox: list[Reading] = []
        """Of Prometheus: which run a reading is of is told at the next tick."""
        self._open: set[str] = set()
        self._last_source: str | None = None

    @property
    def from_prometheus(self) -> bool:
        """Whether Prometheus is asked: as the study says, or else wherever there is one."""
        return self._asker is not None and self._metrics is not None and self._metrics.source != "Scrape"

    @property
    def interval(self) -> float:
        """Seconds between two scrapes of a trainer."""
        given = None if self._metrics is None else self._metrics.interval
        if given is not None:
            return parse_duration(given)
        return self._settings.interval if self.from_prometheus else _SCRAPE_SECONDS

    @property
    def _intervals(self) -> int:
        """Scrapes in which a value has a fair chance to show; one more where it must settle."""
        own = self._metrics is not None and self._metrics.query is not None
        return INTERVALS + 1 if own else INTERVALS

    def linger_seconds(self) -> float:
        """How long a trainer stays up for its last values to be seen."""
        if not self.from_prometheus:
            return self._settings.linger
        return self._intervals * self.interval + DISCOVERY_SECONDS

    def patience(self) -> Patience | None:
        """How long values are waited for after a run's end; None where its record counts at once."""
        metrics = self._metrics
        if not self.from_prometheus or metrics is None or self._asker is None:
            return None
        # An operator that has just started gives nothing up before it has asked: Prometheus may have known for long
        seconds = self._fair_seconds(metrics) if self._asked else math.inf
        # A query of one's own that nothing may stand in for may measure something else than the trainer does
        waits = metrics.when_missing == "Wait"
        return Patience(seconds, record_counts=not waits, comparable=not (waits and metrics.query is not None))

    def _fair_seconds(self, metrics: MetricsSpec) -> float:
        """A value's fair chance to show once its run has ended."""
        return self._intervals * self.interval if metrics.patience is None else parse_duration(metrics.patience)

    def collect(self, spec: HPOStudySpec, state: StudyState, now: float) -> None:
        """Take in what Prometheus has answered since the last call, and have it asked for what is open now."""
        self._metrics = spec.metrics
        uid = self._study.uid
        if self._asker is None:
            return
        if not self.from_prometheus:
            self._asker.forget(uid)
            self._last_source, self._open = None, set()
            self._ask_by(None)
            return
        form = self._form_of(spec.metrics)
        self._ask_by(form)
        self._watch_outcomes(state)
        if not self._open:
            self._asker.rest(uid)
            return
        period = min(_LONGEST_PERIOD, max(_LEAST_PERIOD, self._settings.tick, self.interval / 4))
        oldest = min((run.awaited.since for run in state.awaiting_runs if run.awaited), default=now)
        self._asker.follow(uid, form, self._receive, self.interval, period, max(0.0, now - oldest))
        self._asked = self._asker.asked(uid)  # before its answer is taken, which so is there if this says so
        self._sort(state)

    def of(self, run: Run, trials: Sequence[str], where: str) -> Exposition:
        """What a running trainer has shown since the last call; it is let go once its last values are there.

        What it has saved on the way is always read directly: it is nobody's score.

        Args:
            run: whose.
            trials: names of those it trains.
            where: host and port of its /metrics.
        """
        with self._lock:
            values = self._runs.setdefault(run.name, _RunValues())
            values.where = where
        self._scraper.watch(
            self._study.uid,
            run.name,
            where,
            trials,
            self.interval,
            lambda exposition: self._scraped(run, trials, exposition),
        )
        with self._lock:
            exposition = Exposition(tuple(values.fresh), frozenset(values.finished), values.saved)
            values.fresh, values.saved = [], {}
        if set(trials) <= exposition.finished:
            self._scraper.release(where)
        return exposition

    def last_saved(self, run: Run) -> Mapping[str, int]:
        """What a run that has ended had saved on the way, as far as that was not told before."""
        with self._lock:
            values = self._runs.get(run.name, _RunValues())
            saved, values.saved = values.saved, {}
        return saved

    def late(self, run: Run) -> tuple[Sample, ...]:
        """Everything that was shown of a run, in order of tokens."""
        with self._lock:
            samples = dict(self._runs.get(run.name, _RunValues()).samples)
        return tuple(samples[key] for key in sorted(samples, key=lambda key: key[1]))

    def release(self, run: Run) -> None:
        """Let a trainer go whose values are known."""
        values = self._runs.get(run.name)
        if values is not None and values.where:
            self._scraper.release(values.where)

    def forget(self, run: str) -> None:
        """A run that has ended is watched no more; what Prometheus shows of it still counts until it is booked."""
        self._scraper.forget(self._study.uid, run)
        if not self.from_prometheus:
            with self._lock:
                self._runs.pop(run, None)

    def close(self) -> None:
        """The study is no more."""
        self._scraper.forget(self._study.uid)
        if self._asker is not None:
            self._asker.forget(self._study.uid)

    def _scraped(self, run: Run, trials: Sequence[str], exposition: Exposition) -> None:
        """From a thread of the scraper's: what is not of the run's trials at its rung is dropped."""
        with self._lock:
            values = self._runs.get(run.name)
            if values is None:
                return
            values.saved.update({trial: tokens for trial, tokens in exposition.saved.items() if trial in trials})
            if not self.from_prometheus:
                samples = [
                    sample for sample in exposition.samples if sample.trial in trials and sample.rung == run.rung
                ]
                values.put(samples, exposition.finished.intersection(trials))

    def _receive(self, readings: Sequence[Reading]) -> None:
        """From a thread of the asker's."""
        with self._lock:
            self._inbox += readings

    def _sort(self, state: StudyState) -> None:
        """Tell which open run each reading is of; what is of none is dropped."""
        by_trial = {(state.trials[i].name, r.rung): r for n in self._open for r in (state.runs[n],) for i in r.trials}
        with self._lock:
            readings, self._inbox = self._inbox, []
            for reading in readings:
                sample = reading.sample
                run = state.runs.get(reading.run) if reading.run else by_trial.get((sample.trial, sample.rung))
                if run is not None and run.state.open and run.rung == sample.rung:
                    last = reading.finished or sample.tokens >= run.tokens
                    self._runs.setdefault(run.name, _RunValues()).put([sample], [sample.trial] if last else [])

    def availability(self, state: StudyState) -> Availability | None:
        """What to say of Prometheus; None where it is not asked, or nothing is known yet.

        Of a study that is over: where its last values came from.
        """
        patience = self.patience()
        if self._asker is None or self._metrics is None or patience is None:
            return None
        patience = replace(patience, seconds=self._fair_seconds(self._metrics))
        self._watch_outcomes(state)
        problem = self._asker.problem(self._study.uid)
        if problem is not None and state.finished is None:
            return Availability(False, problem.reason, f"{problem.message}. {_meanwhile(state, patience)}")
        if self._last_source == "Record":
            target = self._settings.target
            message = (
                "Prometheus answers, but did not have the values of the run that ended last within "
                f"{patience.seconds:g} s, so its record counts; make sure that it scrapes this study's pods every "
                f"{self.interval:g} s and gives them the labels {target.namespace} and {target.pod} (docs/metrics.md), "
                "or correct metrics.interval"
            )
            return Availability(False, "NoSamples", message)
        overdue = [r for r in state.awaiting_runs if r.awaited and time.time() - r.awaited.since > patience.seconds]
        if overdue and not patience.record_counts:
            message = f"Prometheus answers, but has no values of {overdue[0].name}, which has ended. "
            return Availability(False, "NoSamples", message + _meanwhile(state, patience))
        if self._last_source == "Prometheus":
            return Availability(True, "Prometheus", "values come through Prometheus")
        return None

    def _ask_by(self, form: Form | None) -> None:
        """What another query, or another source, said counts no more."""
        if form == self._form:
            return
        self._form = form
        with self._lock:
            self._inbox = []
            for values in self._runs.values():
                values.clear()

    def _form_of(self, metrics: MetricsSpec) -> Form:
        study, query = self._study, metrics.query
        if query is None:
            return TrainerSeries(study.uid, study.namespace, self._settings.target)
        values = (("study", study.name), ("study_uid", study.uid), ("namespace", study.namespace))
        return CustomQuery(query, values, self._settings.target)

    def _watch_outcomes(self, state: StudyState) -> None:
        """Notice which runs are booked, and by what."""
        now_open = {name for name, run in state.runs.items() if run.state.open}
        for name in sorted(self._open - now_open):
            run = state.runs.get(name)  # None where the state was read again, without what was never saved
            results = [] if run is None else [state.trials[index].result_at(run.rung) for index in run.trials]
            sources = {r.source for r in results if r is not None and r.run == name and r.state == "Completed"}
            if sources:
                self._last_source = "Record" if "Record" in sources else "Prometheus"
            with self._lock:
                self._runs.pop(name, None)
        self._open = now_open


def _meanwhile(state: StudyState, patience: Patience) -> str:
    if patience.record_counts:
        return f"Of each run that ends meanwhile its own record counts after {patience.seconds:g} s"
    waiting = len(state.awaiting_runs)
    return f"{waiting} runs that have ended wait for it (metrics.whenMissing: Wait)"
