"""Where the values of one study come from: its trainers, read directly, or a Prometheus that scrapes them.

It decides nothing: what was seen goes to the loop, which books it (`engine.reconcile`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from frostline_operator.api.metrics import MetricsSpec
from frostline_operator.api.quantity import parse_duration
from frostline_operator.api.study import HPOStudySpec
from frostline_operator.engine.reconcile import INTERVALS, Patience, Sample
from frostline_operator.engine.state import Run, StudyState
from frostline_operator.kubernetes.objects.jobs import StudyRef
from frostline_operator.kubernetes.settings import OperatorSettings
from frostline_operator.scores.asking import Asker
from frostline_operator.scores.queries import CustomQuery, Form, Seen, TrainerSeries
from frostline_operator.scores.scrape import Exposition
from frostline_operator.scores.watching import Watcher

_SCRAPE_SECONDS = 5.0
"""Between two looks at a trainer, where the study does not say."""
DISCOVERY_SECONDS = 5.0
"""Prometheus takes up new targets every five seconds at most, so that a short-lived pod must stay so much longer."""
_LEAST_PERIOD, _LONGEST_PERIOD = 1.0, 15.0


@dataclass(frozen=True)
class Availability:
    """Whether the values of a study come through Prometheus, as a condition says it."""

    status: bool
    reason: str
    message: str


class Scores:
    """The values of one study.

    Args:
        study: whose.
        watcher: reads trainers.
        asker: asks Prometheus, None where the operator knows of none.
        settings: of the operator.
    """

    def __init__(self, study: StudyRef, watcher: Watcher, asker: Asker | None, settings: OperatorSettings) -> None:
        self._study, self._watcher, self._asker, self._settings = study, watcher, asker, settings
        self._spec: HPOStudySpec | None = None
        self._form: Form | None = None
        self._asked = False
        self._new: dict[str, list[Sample]] = {}
        self._known: dict[str, dict[tuple[str, int], Sample]] = {}
        self._final: dict[str, set[str]] = {}
        self._open: set[str] = set()
        self._last_source: str | None = None
        self._where: dict[str, str] = {}

    @property
    def from_prometheus(self) -> bool:
        """Whether Prometheus is asked: as the study says, or else wherever there is one."""
        return self._asker is not None and self._spec is not None and self._spec.metrics.source != "Scrape"

    @property
    def interval(self) -> float:
        """Seconds between two scrapes of a trainer."""
        given = None if self._spec is None else self._spec.metrics.interval
        if given is not None:
            return parse_duration(given)
        return self._settings.prometheus.interval_seconds if self.from_prometheus else _SCRAPE_SECONDS

    @property
    def _intervals(self) -> int:
        """Scrapes in which a value has a fair chance to show; one more where it must settle."""
        own = self._spec is not None and self._spec.metrics.query is not None
        return INTERVALS + 1 if own else INTERVALS

    def linger_seconds(self) -> float:
        """How long a trainer stays up for its last values to be seen."""
        if not self.from_prometheus:
            return self._settings.linger_seconds
        return self._intervals * self.interval + DISCOVERY_SECONDS

    def patience(self) -> Patience | None:
        """How long values are waited for after a run's end; None where its record counts at once."""
        if not self.from_prometheus or self._spec is None or self._asker is None:
            return None
        metrics = self._spec.metrics
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
        self._spec = spec
        uid = self._study.uid
        if self._asker is None:
            return
        if not self.from_prometheus:
            self._asker.forget(uid)
            self._last_source, self._open = None, set()
            self._ask_by(None)
            return
        form = self._form_of(spec)
        self._ask_by(form)
        self._watch_outcomes(state)
        if not self._open:
            self._asker.rest(uid)
            return
        period = min(_LONGEST_PERIOD, max(_LEAST_PERIOD, self._settings.tick_seconds, self.interval / 4))
        oldest = min((run.awaited.since for run in state.awaiting_runs if run.awaited), default=now)
        self._asker.follow(uid, form, self.interval, period, max(0.0, now - oldest))
        self._asked = self._asker.asked(uid)  # before its answer is taken, which so is there if this says so
        by_trial = {(state.trials[i].name, r.rung): r for n in self._open for r in (state.runs[n],) for i in r.trials}
        for seen in self._asker.take(uid):
            run = state.runs.get(seen.run) if seen.run else by_trial.get((seen.sample.trial, seen.sample.rung))
            if run is not None and run.state.open and run.rung == seen.sample.rung:
                self._keep(run, seen)

    def of(self, run: Run, trials: Sequence[str], where: str) -> Exposition:
        """What a running trainer has shown since the last call; it is let go once its last values are there.

        What it has saved on the way is always read directly: it is nobody's score.

        Args:
            run: whose.
            trials: names of those it trains.
            where: host and port of its /metrics.
        """
        self._where[run.name] = where
        self._watcher.watch(self._study.uid, run.name, where, trials, self.interval)
        shown = self._watcher.take(self._study.uid, run.name) or Exposition()
        if self.from_prometheus:
            finished = frozenset(self._final.get(run.name, ()))
            shown = Exposition(tuple(self._new.pop(run.name, ())), finished, shown.saved)
        if set(trials) <= shown.finished:
            self._watcher.release(where)
        return shown

    def last_saved(self, run: Run) -> Mapping[str, int]:
        """What a run that has ended had saved on the way, as far as that was not told before."""
        shown = self._watcher.take(self._study.uid, run.name)
        return {} if shown is None else shown.saved

    def late(self, run: Run) -> tuple[Sample, ...]:
        """Everything that Prometheus has shown of a run, in order of tokens."""
        known = self._known.get(run.name, {})
        return tuple(known[key] for key in sorted(known, key=lambda key: key[1]))

    def release(self, run: Run) -> None:
        """Let a trainer go whose values are known."""
        where = self._where.get(run.name)
        if where is not None:
            self._watcher.release(where)

    def forget(self, run: str) -> None:
        """A run that has ended is watched no more."""
        self._watcher.forget(self._study.uid, run)
        self._where.pop(run, None)

    def availability(self, state: StudyState) -> Availability | None:
        """What to say of Prometheus; None where it is not asked, or nothing is known yet.

        Of a study that is over: where its last values came from.
        """
        patience = self.patience()
        if self._asker is None or self._spec is None or patience is None:
            return None
        patience = replace(patience, seconds=self._fair_seconds(self._spec.metrics))
        self._watch_outcomes(state)
        problem = self._asker.problem(self._study.uid)
        if problem is not None and state.finished is None:
            return Availability(False, problem.reason, f"{problem.message}. {_meanwhile(state, patience)}")
        if self._last_source == "Record":
            message = (
                "Prometheus answers, but did not have the values of the run that ended last within "
                f"{patience.seconds:g} s, so its record counts; make sure that it scrapes this study's pods every "
                f"{self.interval:g} s (docs/metrics.md), or correct metrics.interval"
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
        """What another query said counts no more."""
        if form != self._form:
            self._form = form
            self._new, self._known, self._final = {}, {}, {}

    def _form_of(self, spec: HPOStudySpec) -> Form:
        study, query = self._study, spec.metrics.query
        if query is None:
            return TrainerSeries(study.uid)
        return CustomQuery(query, (("study", study.name), ("study_uid", study.uid), ("namespace", study.namespace)))

    def _keep(self, run: Run, seen: Seen) -> None:
        self._new.setdefault(run.name, []).append(seen.sample)
        self._known.setdefault(run.name, {})[(seen.sample.trial, seen.sample.tokens)] = seen.sample
        if seen.finished or seen.sample.tokens >= run.tokens:
            self._final.setdefault(run.name, set()).add(seen.sample.trial)

    def _watch_outcomes(self, state: StudyState) -> None:
        """Notice which runs are booked, and by what."""
        now_open = {name for name, run in state.runs.items() if run.state.open}
        for name in sorted(self._open - now_open):
            run = state.runs.get(name)  # None where the state was read again, without what was never saved
            results = [] if run is None else [state.trials[index].result_at(run.rung) for index in run.trials]
            sources = {r.source for r in results if r is not None and r.run == name and r.state == "Completed"}
            if sources:
                self._last_source = "Record" if "Record" in sources else "Prometheus"
            for kept in (self._new, self._known, self._final, self._where):
                kept.pop(name, None)
        self._open = now_open


def _meanwhile(state: StudyState, patience: Patience) -> str:
    if patience.record_counts:
        return f"Of each run that ends meanwhile its own record counts after {patience.seconds:g} s"
    waiting = len(state.awaiting_runs)
    return f"{waiting} runs that have ended wait for it (metrics.whenMissing: Wait)"
