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
study, another namespace or an earlier attempt can be taken for this one's.

**A query of one's own** is an instant vector, evaluated with the tokens in one query. Whoever writes it answers for
objective and tokens belonging together; what can be checked of its form is checked, and said. Since they may still
be of two scrapes, its values settle (`settling.py`) before they count.
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

_PART = "frostline_part"
_MOST_SHOWN = 3


@dataclass(frozen=True)
class Seen:
    """A value that Prometheus has."""

    run: str | None
    """The run that showed it; None where the series do not say."""
    sample: Sample
    finished: bool = False
    """The trial has no further value in this run, such as one that diverged."""


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

    seen: tuple[Seen, ...] = ()
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
class TrainerSeries:
    """The trainers' own series of one study."""

    study_uid: str
    settles: ClassVar[bool] = False

    def query(self, window: float) -> str:
        """One range selector over all of them."""
        names = "|".join((MetricName.OBJECTIVE, MetricName.TOKENS, MetricName.FINISHED, MetricName.LOSS))
        return f'{{__name__=~"{names}",study_uid="{escaped(self.study_uid)}"}}[{math.ceil(window)}s]'

    def read(self, answer: Answer) -> Findings:
        """Each objective with the tokens of the same scrape."""
        if answer.kind != "matrix":
            return _odd(answer.kind, "a range of samples")
        scrapes: dict[tuple[frozenset[tuple[str, str]], float], dict[str, float]] = {}
        for series in answer.series:
            if series.labels.get("study_uid") != self.study_uid:
                continue
            name = series.labels.get("__name__", "")
            target = frozenset((key, value) for key, value in series.labels.items() if key != "__name__")
            for at, value in series.points:
                scrapes.setdefault((target, at), {})[name] = value
        found: dict[tuple[str, str, int, int], tuple[float, Seen]] = {}
        for (target, at), values in scrapes.items():
            seen = _one_scrape(dict(target), values)
            if seen is None:
                continue
            key = (seen.run or "", seen.sample.trial, seen.sample.rung, seen.sample.tokens)
            if key not in found or found[key][0] <= at:
                found[key] = (at, seen)
        return Findings(tuple(seen for _, seen in found.values()))


@dataclass(frozen=True)
class CustomQuery:
    """PromQL of a person's own.

    Args:
        spec: as in the study.
        values: names and what `$name` in its expressions stands for, `window` excepted.
    """

    spec: QuerySpec
    values: tuple[tuple[str, str], ...]
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
        return f'max by ({labels}) (last_over_time({MetricName.TOKENS}{{study_uid="$study_uid"}}[$window]))'

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
        seen = []
        for key, value in objectives.values.items():
            count = tokens.values.get(key)
            if count is not None and math.isfinite(count) and count >= 0:
                seen.append(Seen(key[2] or None, Sample(key[0], key[1], int(count), value)))
        problem = objectives.problem("objective", own) or tokens.problem("tokens", named)
        lacking = [key for key in objectives.values if key not in tokens.values]
        if problem is None and lacking:
            problem = Problem(
                "NoTokens",
                f"metrics.query: there is a value of {_shown(lacking)}, and none of its tokens, without which it never "
                "counts; set metrics.query.tokens to the tokens (or samples) that the trainer has seen",
            )
        return Findings(tuple(seen), problem)


def escaped(text: str) -> str:
    """As it stands within double quotes in PromQL."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def filled(expression: str, values: Mapping[str, str]) -> str:
    """The expression with `$name` replaced; other dollars, such as in regular expressions, stay."""
    for name in sorted(values, key=len, reverse=True):
        expression = expression.replace(f"${name}", escaped(values[name]))
    return expression


def _one_scrape(labels: Mapping[str, str], values: Mapping[str, float]) -> Seen | None:
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
    return Seen(labels["run"], Sample(labels["trial"], rung, int(tokens), objective, loss), finished)


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
