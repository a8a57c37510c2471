"""What is asked of Prometheus for a study, and which values its answers hold. Pure.

**The trainers' own series.** One instant query with a range selector returns the raw samples of objective, tokens and
more with the timestamps at which they were scraped. A value is what one target showed *at one moment*: objective and
tokens of equal labels and equal timestamp, which is one scrape of one trainer, and the trainer swaps its figures whole.
PromQL cannot say that: `last_over_time(objective) and last_over_time(tokens) >= n` pairs the newest of each,
and these come from two scrapes wherever series do not arrive together (remote write, a store that is down, replicas),
so that an old objective would be taken at new tokens; `timestamp()` sees nothing of a trainer that has gone. Raw
samples also need no aggregation over targets (two jobs that scrape one pod give the same pair twice), no `rate` (a
counter that starts over is another pair), and no clock but the server's own.

The selector has the study's uid, which no other study ever has, and each series its run, so nothing of an earlier
study or attempt is taken for this one's. Anybody may write these labels into an exposition of their own, though; the
labels of the target cannot be written there. So the selector has the study's namespace too, and a series counts only if
its pod is one of the run's Job.

**A query of one's own** is an instant vector, evaluated with the tokens in one query. Whoever writes it answers for
objective and tokens belonging together; what can be checked of its form is checked, and said. Since they may still
be of two scrapes, its values settle (`Settling`) before they count.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

from frostline_operator.api.metrics import QueryLabels, QuerySpec
from frostline_operator.engine.reconcile import Sample
from frostline_operator.scores.prometheus import Answer, Series
from frostline_trainer.contract import MetricName

Key = tuple[str | None, str, int, int]
"""Run, trial, rung and tokens."""

_PART = "frostline_part"
_POD_STEM = 58
"""Characters of its Job's name that a pod's name has at most; Kubernetes adds five of its own."""
_MOST_SHOWN = 3


@dataclass(frozen=True)
class Reading:
    """A value that Prometheus has."""

    run: str | None
    """The run that showed it; None where the series do not say."""
    sample: Sample
    finished: bool = False
    """The trial has no further value in this run, such as one that diverged."""

    @property
    def key(self) -> Key:
        """What it is a value of."""
        return (self.run, self.sample.trial, self.sample.rung, self.sample.tokens)

    def agrees(self, other: Reading | None) -> bool:
        """Whether both say the same, where NaN is like NaN; the training loss goes on changing and does not matter."""
        if other is None:
            return False
        return (repr(self.sample.objective), self.finished) == (repr(other.sample.objective), other.finished)


@dataclass(frozen=True)
class Problem:
    """What is wrong with an answer."""

    reason: str
    """One word."""
    message: str
    """In words, with what helps."""


@dataclass(frozen=True)
class Findings:
    """What an answer holds."""

    readings: tuple[Reading, ...] = ()
    problem: Problem | None = None


class Form(Protocol):
    """What to ask, and how to read the answer."""

    @property
    def settles(self) -> bool:
        """Whether a value counts only once it has stayed the same for a scrape interval."""

    def query(self, window: float) -> str:
        """The expression; `window` is how many seconds it looks back."""

    def read(self, answer: Answer) -> Findings:
        """The values in an answer."""


@dataclass(frozen=True)
class TargetLabels:
    """Labels by which Prometheus says where it has scraped a series; no exposition can set them."""

    namespace: str = "namespace"
    pod: str = "pod"


@dataclass(frozen=True)
class TrainerSeries:
    """The trainers' own series of one study.

    Args:
        study_uid: of the study.
        namespace: of the study.
        target: labels of the target that say where a series was scraped.
    """

    study_uid: str
    namespace: str
    target: TargetLabels
    settles: ClassVar[bool] = False

    def query(self, window: float) -> str:
        """One range selector over all of them."""
        names = "|".join((MetricName.OBJECTIVE, MetricName.TOKENS, MetricName.FINISHED, MetricName.LOSS))
        uid, namespace = escaped(self.study_uid), escaped(self.namespace)
        place = f'{self.target.namespace}="{namespace}",{self.target.pod}!=""'
        return f'{{__name__=~"{names}",study_uid="{uid}",{place}}}[{math.ceil(window)}s]'

    def read(self, answer: Answer) -> Findings:
        """Each objective with the tokens of the same scrape."""
        if answer.kind != "matrix":
            return _odd(answer.kind, "a range of samples")
        scrapes: dict[tuple[frozenset[tuple[str, str]], float], dict[str, float]] = {}
        for series in answer.series:
            if not self._is_ours(series.labels):
                continue
            name = series.labels.get("__name__", "")
            target = frozenset((key, value) for key, value in series.labels.items() if key != "__name__")
            for at, value in series.points:
                scrapes.setdefault((target, at), {})[name] = value
        newest: dict[Key, tuple[float, Reading]] = {}
        for (target, at), values in scrapes.items():
            reading = _one_scrape(dict(target), values)
            if reading is not None and (reading.key not in newest or newest[reading.key][0] <= at):
                newest[reading.key] = (at, reading)
        return Findings(tuple(reading for _, reading in newest.values()))

    def _is_ours(self, labels: Mapping[str, str]) -> bool:
        """Whether a series is of the study, and its target a pod of the run's Job, whose name these begin with."""
        place = (labels.get("study_uid"), labels.get(self.target.namespace))
        run, pod = labels.get("run", ""), labels.get(self.target.pod, "")
        stem = f"{run}-"[:_POD_STEM]
        return place == (self.study_uid, self.namespace) and run != "" and pod.startswith(stem) and pod != stem


@dataclass(frozen=True)
class CustomQuery:
    """PromQL of a person's own.

    Args:
        spec: as in the study.
        values: names and what `$name` in its expressions stands for, `window` excepted.
        target: labels of the target, by which the trainers' own tokens are asked for.
    """

    spec: QuerySpec
    values: tuple[tuple[str, str], ...]
    target: TargetLabels
    settles: ClassVar[bool] = True

    def query(self, window: float) -> str:
        """Objective and tokens in one query, so that both are of one moment; a label tells them apart."""
        parts = (("objective", self.spec.objective), ("tokens", self._tokens()))
        values = {**dict(self.values), "window": f"{math.ceil(window)}s"}
        # On lines of its own, so that a comment at an expression's end ends there
        return "\nor\n".join(
            f'label_replace((\n{filled(expression, values)}\n), "{_PART}", "{part}", "", "")'
            for part, expression in parts
        )

    def _tokens(self) -> str:
        if self.spec.tokens is not None:
            return self.spec.tokens
        labels = "trial, rung" if self.spec.labels.run is None else "trial, rung, run"
        own = f'study_uid="$study_uid",{self.target.namespace}="$namespace"'
        return f"max by ({labels}) (last_over_time({MetricName.TOKENS}{{{own}}}[$window]))"

    def read(self, answer: Answer) -> Findings:
        """One value for each trial and rung; what is ambiguous is left out and said."""
        if answer.kind != "vector":
            return _odd(answer.kind, "an instant vector")
        if answer.partial:
            text = f"{'; '.join(answer.warnings)[:300]}; a value of a part of the series could be another value"
            return Findings((), Problem("PartialAnswer", f"Prometheus answers with a part only: {text}"))
        own = self.spec.labels
        objectives = _by_trial((s for s in answer.series if s.labels.get(_PART) == "objective"), own)
        named = own if self.spec.tokens is not None else QueryLabels(run=None if own.run is None else "run")
        tokens = _by_trial((s for s in answer.series if s.labels.get(_PART) == "tokens"), named)
        readings = []
        for key, value in objectives.values.items():
            count = tokens.values.get(key)
            if count is not None and math.isfinite(count) and count >= 0:
                readings.append(Reading(key[2] or None, Sample(key[0], key[1], int(count), value)))
        problem = objectives.problem("objective", own) or tokens.problem("tokens", named)
        lacking = [key for key in objectives.values if key not in tokens.values]
        if problem is None and lacking:
            problem = Problem(
                "NoTokens",
                f"metrics.query: there is a value of {_shown(lacking)}, and none of its tokens, without which it never "
                "counts; set metrics.query.tokens to the tokens (or samples) that the trainer has seen",
            )
        return Findings(tuple(readings), problem)


class Settling:
    """What is new in each answer, held back until it has stayed the same for a while.

    A query of one's own is evaluated at one moment, but the samples that it finds may be of several: two jobs that
    scrape one pod, replicas, a recording rule. For up to one interval its answer can so be an old objective at new
    tokens, and nothing but time tells that from the value. A value that is no longer shown settles all the same: pods
    end, and their series with them.
    """

    def __init__(self) -> None:
        self._answer: dict[Key, Reading] = {}
        self._held: dict[Key, tuple[Reading, float]] = {}

    def take(self, answer: Iterable[Reading], now: float, seconds: float) -> list[Reading]:
        """What has come to count with an answer.

        Args:
            answer: all readings of the newest answer; another value than the one that is held begins anew.
            now: clock at which it was asked for.
            seconds: for which a value must have been the same.
        """
        readings = {reading.key: reading for reading in answer}
        for key, reading in readings.items():
            held = self._held.get(key)
            if not reading.agrees(self._answer.get(key)) and (held is None or not reading.agrees(held[0])):
                self._held[key] = (reading, now)
        self._answer = readings
        settled = [key for key, (_, since) in self._held.items() if now - since >= seconds]
        return [self._held.pop(key)[0] for key in settled]


def escaped(text: str) -> str:
    """As it stands within double quotes in PromQL."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def filled(expression: str, values: Mapping[str, str]) -> str:
    """The expression with `$name` replaced; other dollars, such as in regular expressions, stay."""
    for name in sorted(values, key=len, reverse=True):
        expression = expression.replace(f"${name}", escaped(values[name]))
    return expression


def _one_scrape(labels: Mapping[str, str], values: Mapping[str, float]) -> Reading | None:
    """What one scrape of one trainer showed of one trial; None where it is no value yet."""
    tokens = values.get(MetricName.TOKENS)
    objective = values.get(MetricName.OBJECTIVE)
    rung = _rung(labels.get("rung"))
    if objective is None or tokens is None or rung is None or not math.isfinite(tokens) or tokens < 0:
        return None
    if not labels.get("trial") or not labels.get("run"):
        return None
    finished = values.get(MetricName.FINISHED) == 1
    loss = values.get(MetricName.LOSS)
    return Reading(labels["run"], Sample(labels["trial"], rung, int(tokens), objective, loss), finished)


def _rung(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdecimal() and len(text) < 10 else None


_Key = tuple[str, int, str]


@dataclass(frozen=True)
class _ByTrial:
    """One part of a custom answer."""

    values: dict[_Key, float]
    several: list[_Key]
    nameless: list[dict[str, str]]

    def problem(self, part: str, labels: QueryLabels) -> Problem | None:
        """What is wrong with it."""
        by = ", ".join(filter(None, (labels.trial, labels.rung, labels.run)))
        if self.nameless:
            example = ", ".join(f'{k}="{v}"' for k, v in sorted(self.nameless[0].items()) if k != _PART)
            return Problem(
                "MissingLabels",
                f"metrics.query.{part}: {len(self.nameless)} series do not say which trial and rung they are of, such "
                f"as {{{example[:200]}}}; they need the labels {by} (a trial's name, a rung's number); set "
                "metrics.query.labels to what yours are called",
            )
        if self.several:
            return Problem(
                "SeveralSeries",
                f"metrics.query.{part}: several series for {_shown(self.several)}, so that no value counts; make them "
                f"one, for example with max by ({by}) (...)",
            )
        return None


def _by_trial(series: Iterable[Series], labels: QueryLabels) -> _ByTrial:
    values: dict[_Key, float] = {}
    several: dict[_Key, None] = {}
    nameless = []
    for one in series:
        trial, rung = one.labels.get(labels.trial, ""), _rung(one.labels.get(labels.rung))
        run = "" if labels.run is None else one.labels.get(labels.run, "")
        if not trial or rung is None or (labels.run is not None and not run) or not one.points:
            nameless.append(one.labels)
            continue
        key = (trial, rung, run)
        if key in values:
            several[key] = None
        values[key] = one.points[-1][1]
    return _ByTrial({k: v for k, v in values.items() if k not in several}, list(several), nameless)


def _shown(keys: list[_Key]) -> str:
    words = [f"{trial} at rung {rung}" for trial, rung, _ in keys[:_MOST_SHOWN]]
    more = len(keys) - len(words)
    return ", ".join(words) + (f" and {more} more" if more > 0 else "")


def _odd(kind: str, wanted: str) -> Findings:
    return Findings((), Problem("InvalidQuery", f"the query comes to a {kind}, not to {wanted}; correct metrics.query"))
