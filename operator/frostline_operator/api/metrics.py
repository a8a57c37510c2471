"""Where the scores that decide come from: the trainers themselves, or a Prometheus that scrapes them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field
from pydantic.alias_generators import to_camel

from frostline_operator.api.quantity import Duration
from frostline_trainer.contract import FieldPath, Section

Expression = Annotated[str, Field(min_length=1, max_length=4096, pattern=r"\S")]
LabelName = Annotated[str, Field(pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*$", max_length=63)]


class QueryLabels(Section):
    """Which labels of the query's series say what they are about."""

    trial: LabelName = "trial"
    """Holds the trial's name, such as my-study-0007."""
    rung: LabelName = "rung"
    """Holds the rung's number, counted from 0."""
    run: LabelName | None = None
    """Holds the run's name, where the series have such a label: then no value of an earlier attempt at the same rung
    can be taken for one of this attempt."""

    def problems(self) -> Iterator[tuple[FieldPath, str]]:
        """One label for two things."""
        given = {"trial": self.trial, "rung": self.rung, "run": self.run}
        for name, earlier in (("rung", ["trial"]), ("run", ["trial", "rung"])):
            taken = next((other for other in earlier if given[other] == given[name]), None)
            if given[name] is not None and taken is not None:
                yield (name,), f"is the label {given[name]}, which is {taken}'s already; name another label"


class QuerySpec(Section):
    """PromQL of your own, where trainers export a metric of their own. `$study`, `$study_uid`, `$namespace` and
    `$window` (a duration, for last_over_time) are replaced."""

    objective: Expression
    """An instant vector with one series for each trial and rung; its value is what trials are ranked by. For example
    `max by (trial, rung) (last_over_time(my_loss{study_uid="$study_uid", namespace="$namespace"}[$window]))`."""
    tokens: Expression | None = None
    """The same for the tokens (or samples) that a trial has seen: a value counts once they reach the rung's. By default
    the trainer's own `frostline_trial_tokens_total`."""
    labels: QueryLabels = Field(default_factory=QueryLabels)
    """Names of the labels that the series have."""


class MetricsSpec(Section):
    """Where the scores that decide come from."""

    source: Literal["Scrape", "Prometheus"] | None = None
    """Scrape: the operator reads the trainers' /metrics itself. Prometheus: it asks a Prometheus that scrapes them.
    By default Prometheus where the operator has been told of one, else Scrape. `frostline run` always reads the
    trainers."""
    interval: Duration | None = None
    """Between scrapes. For source Prometheus, how often it scrapes this study's trainers: they stay up for two
    intervals (three with a `query`) after their last value unless it was seen. By default 5s, or what the operator says
    of its Prometheus."""
    when_missing: Literal["Record", "Wait"] = "Record"
    """What to do where a run has ended and Prometheus does not have its value. Record: after `patience` the run's own
    record counts. Wait: only Prometheus's value counts, for as long as it takes."""
    patience: Duration | None = None
    """How long after a run's end its value may take to show in Prometheus. By default two intervals,
    three for a `query` of your own, whose values settle first."""
    query: QuerySpec | None = None
    """PromQL of your own instead of the trainers' `frostline_trial_objective`."""

    def problems(self) -> Iterator[tuple[FieldPath, str]]:
        """Fields that go with Prometheus only, or contradict each other."""
        if self.source == "Scrape":
            for field in ("query", "patience", "when_missing"):
                if getattr(self, field) != MetricsSpec.model_fields[field].default:
                    name = to_camel(field)
                    yield (name,), f"{name} is for source Prometheus; remove it, or set source: Prometheus"
        elif self.patience is not None and self.when_missing == "Wait":
            yield ("patience",), "whenMissing: Wait waits for as long as it takes; remove patience, or set Record"
