"""Whether a low rung's ranking is believed: it must agree with the next rung's."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from frostline_operator.api.search import TrustSpec
from frostline_operator.engine.plan import Plan
from frostline_operator.engine.promotion import rank_correlation
from frostline_operator.engine.state import StudyState

Correlation = tuple[float | None, int]
"""Spearman's rho between a rung and the next one, None where nothing can be said, and over how many trials."""


def correlations(state: StudyState, plan: Plan) -> list[Correlation]:
    """Of each rung with the next one, lowest first; the highest has none."""
    values: list[dict[int, float]] = [{} for _ in plan.rungs]
    for trial in state.trials.values():
        for result in trial.results:
            if result.state == "Completed" and result.value is not None and math.isfinite(result.value):
                values[result.rung][trial.index] = result.value
    return [
        (rank_correlation(lower, upper), len(lower.keys() & upper.keys()))
        for lower, upper in itertools.pairwise(values)
    ]


def untrusted_rungs(found: Sequence[Correlation], trust: TrustSpec) -> list[int]:
    """Rungs whose correlation with the next one is below the threshold, over enough trials to say so."""
    return [
        rung
        for rung, (rho, count) in enumerate(found)
        if rho is not None and count >= trust.min_trials and rho < trust.threshold
    ]


def lowest_trusted_rung(state: StudyState, plan: Plan, trust: TrustSpec) -> int:
    """Where new trials should start: above the rungs from the lowest on that are not trusted."""
    untrusted = set(untrusted_rungs(correlations(state, plan), trust))
    rung = 0
    while rung in untrusted:
        rung += 1
    return rung
