"""Two sources for one value: what was seen in the metrics, and what the run wrote down at its end.

Metrics show a value while the run still lives; the durable record survives short pods and missed scrapes. Where both
are there they must agree. A missing sample is unknown, never a failure.

Which of the two counts is the study's choice. Read from the trainers (source Scrape), metrics are for watching and the
record counts. Through Prometheus the sample counts: it is what the study asks for, what people see in Grafana, and
perhaps not the trainer's own figure at all. The record then proves that the run came to its end, holds the checkpoint,
and stands in where no sample came.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from frostline_operator.engine.state import Awaited, Recorded, Source
from frostline_trainer.contract import RunResult

RELATIVE_TOLERANCE = 1e-6
"""Metrics travel as decimal text with all digits; anything beyond rounding is a disagreement."""
INTERVALS = 2
"""So many scrapes are a value's fair chance: one may fail."""


@dataclass(frozen=True)
class Sample:
    """One observation of a trial's metrics."""

    trial: str
    rung: int
    tokens: int
    objective: float
    loss: float | None = None


@dataclass(frozen=True)
class Patience:
    """How long, and for what, a study waits whose values come through Prometheus."""

    seconds: float
    """From a run's end until its record may stand in: the value's fair chance."""
    record_counts: bool = True
    """Whether the record ever stands in; else only Prometheus's value counts, for as long as it takes."""
    comparable: bool = True
    """Whether sample and record are the same quantity, so that they must agree."""


@dataclass(frozen=True)
class Disagreement:
    """That the metrics showed another value than the run wrote down."""

    trial: str
    rung: int
    seen: float
    recorded: float
    counts: Source = "Record"

    def __str__(self) -> str:
        which = "the record" if self.counts == "Record" else "the value from Prometheus"
        return (
            f"{self.trial} at rung {self.rung}: the metrics showed {self.seen:g}, the run's record says "
            f"{self.recorded:g}; {which} counts"
        )


@dataclass(frozen=True)
class Decision:
    """What counts for one trial of an ended run."""

    trial: int
    value: float | None
    source: Source | None
    """None: nothing counts, the trial has no result of this run."""


def at_rung(samples: Iterable[Sample], rung: int, tokens: int) -> dict[str, float]:
    """The values seen at a rung's full tokens, by trial name: earlier ones are of a lower fidelity and do not count."""
    return {s.trial: s.objective for s in samples if s.rung == rung and s.tokens >= tokens}


def disagreements(seen: Mapping[str, float], result: RunResult, rung: int) -> list[Disagreement]:
    """Where the metrics and the record of a run differ by more than rounding."""
    found = []
    for trial in result.trials:
        if trial.reason != "Completed" or trial.objective is None or trial.name not in seen:
            continue
        if not agree(seen[trial.name], trial.objective):
            found.append(Disagreement(trial.name, rung, seen[trial.name], trial.objective))
    return found


def agree(one: float, other: float) -> bool:
    """Whether two values are one and the same but for rounding; NaN is like NaN."""
    if math.isnan(one) or math.isnan(other):
        return math.isnan(one) and math.isnan(other)
    return math.isclose(one, other, rel_tol=RELATIVE_TOLERANCE, abs_tol=1e-12)


def decide(
    awaited: Awaited, seen: Mapping[int, float], now: float, patience: Patience | None, last_call: bool = False
) -> list[Decision]:
    """What counts for the awaited values of a run, as far as that can be said now.

    Args:
        awaited: what the run left.
        seen: by trial, what Prometheus showed at the rung's tokens.
        now: clock, as of `awaited.since`.
        patience: of the study; None where it no longer takes its values from Prometheus.
        last_call: the study is over: nothing is waited for any more.
    """
    return [
        decision for record in awaited.records if (decision := _decide(record, awaited, seen, now, patience, last_call))
    ]


def _decide(
    record: Recorded,
    awaited: Awaited,
    seen: Mapping[int, float],
    now: float,
    patience: Patience | None,
    last_call: bool,
) -> Decision | None:
    if patience is not None and record.trial in seen:
        return Decision(record.trial, seen[record.trial], "Prometheus")
    if patience is None or patience.record_counts:
        if patience is None or last_call or now - awaited.since >= patience.seconds:
            return Decision(record.trial, record.value, "Record")
        return None
    return Decision(record.trial, None, None) if last_call else None
