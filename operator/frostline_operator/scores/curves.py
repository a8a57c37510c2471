"""Learning curves in the journal: a few points of each trial and run, for reports. Never needed to go on.

What was seen of a run's trials is written once, in the record that books its end: at most `POINTS` points of three
numbers each, some 400 bytes, of which squeezing a chunk leaves a third. An operator that is killed loses the points of
the runs that are under way, and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from frostline_operator.engine.reconcile import Sample
from frostline_operator.engine.state import Run, StudyState

POINTS = 16
"""Of one trial in one run."""

Curve = list[list[float | None]]
"""[tokens, objective, loss] each; None for what is not finite."""
Curves = dict[str, Curve]
"""By trial's name."""


def curves(samples: Iterable[Sample]) -> Curves:
    """The points to keep of one run's samples, in order of tokens."""
    by_trial: dict[str, dict[int, Sample]] = {}
    for sample in samples:
        by_trial.setdefault(sample.trial, {})[sample.tokens] = sample
    return {
        trial: [
            [tokens, _number(points[tokens].objective), _number(points[tokens].loss)]
            for tokens in thinned(sorted(points))
        ]
        for trial, points in by_trial.items()
    }


def thinned(values: Sequence[int], most: int = POINTS) -> list[int]:
    """At most so many of the values, evenly by their place, the first and the last among them."""
    if len(values) <= most:
        return list(values)
    last = len(values) - 1
    return [values[round(step * last / (most - 1))] for step in range(most)]


def samples_of(run: Run, state: StudyState, kept: Mapping[str, Curve]) -> list[Sample]:
    """What a report draws of one run: the points that were kept, and where its trials came out."""
    samples = {
        (trial, int(tokens or 0)): Sample(trial, run.rung, int(tokens or 0), _or_nan(value), loss)
        for trial, points in kept.items()
        for tokens, value, loss in points
    }
    for index in run.trials:
        trial = state.trials[index]
        result = trial.result_at(run.rung)
        if result is not None and result.run == run.name and result.value is not None:
            samples.setdefault((trial.name, result.tokens), Sample(trial.name, run.rung, result.tokens, result.value))
    return [samples[key] for key in sorted(samples)]


def _number(value: float | None) -> float | None:
    """Six digits draw as well as seventeen."""
    return float(f"{value:.6g}") if value is not None and math.isfinite(value) else None


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else float(value)
