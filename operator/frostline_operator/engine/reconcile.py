"""Two sources for one value: what was seen in the metrics, and what the run wrote down at its end.

Metrics show a value while the run still lives; the durable record survives short pods and missed scrapes. Where both
are there they must agree. A missing sample is unknown, never a failure.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from frostline_trainer.contract import RunResult

RELATIVE_TOLERANCE = 1e-6
"""Metrics travel as decimal text with all digits; anything beyond rounding is a disagreement."""


@dataclass(frozen=True)
class Sample:
    """One observation of a trial's metrics."""

    trial: str
    rung: int
    tokens: int
    objective: float
    loss: float | None = None


@dataclass(frozen=True)
class Disagreement:
    """That the metrics showed another value than the run wrote down."""

    trial: str
    rung: int
    seen: float
    recorded: float

    def __str__(self) -> str:
        return (
            f"{self.trial} at rung {self.rung}: the metrics showed {self.seen:g}, the run's record says "
            f"{self.recorded:g}; the record counts"
        )


def at_rung(samples: Iterable[Sample], rung: int, tokens: int) -> dict[str, float]:
    """The values seen at a rung's full tokens, by trial name: earlier ones are of a lower fidelity and do not count."""
    return {s.trial: s.objective for s in samples if s.rung == rung and s.tokens >= tokens}


def disagreements(seen: Mapping[str, float], result: RunResult, rung: int) -> list[Disagreement]:
    """Where the metrics and the record of a run differ by more than rounding."""
    found = []
    for trial in result.trials:
        if trial.reason != "Completed" or trial.objective is None or trial.name not in seen:
            continue
        value = seen[trial.name]
        same = math.isclose(value, trial.objective, rel_tol=RELATIVE_TOLERANCE, abs_tol=1e-12)
        if not same and not (math.isnan(value) and math.isnan(trial.objective)):
            found.append(Disagreement(trial.name, rung, value, trial.objective))
    return found
