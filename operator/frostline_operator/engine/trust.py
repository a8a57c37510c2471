"""Whether a low rung's ranking is believed: it must agree with the next rung's."""

from __future__ import annotations

from frostline_operator.api.search import TrustSpec
from frostline_operator.engine import algorithms
from frostline_operator.engine.plan import Plan
from frostline_operator.engine.promotion import rank_correlation
from frostline_operator.engine.state import StudyState


def correlation(state: StudyState, rung: int) -> tuple[float | None, int]:
    """Spearman's rho between a rung and the next one, and over how many trials it was taken."""
    trials = state.trials.values()
    lower = {s.trial: s.value for s in algorithms.scores(trials, rung) if s.usable and s.value is not None}
    upper = {s.trial: s.value for s in algorithms.scores(trials, rung + 1) if s.usable and s.value is not None}
    return rank_correlation(lower, upper), len(lower.keys() & upper.keys())


def untrusted_rungs(state: StudyState, plan: Plan, trust: TrustSpec) -> list[int]:
    """Rungs whose correlation with the next one is below the threshold, over enough trials to say so."""
    found = []
    for rung in range(plan.top):
        rho, count = correlation(state, rung)
        if rho is not None and count >= trust.min_trials and rho < trust.threshold:
            found.append(rung)
    return found


def lowest_trusted_rung(state: StudyState, plan: Plan, trust: TrustSpec) -> int:
    """Where new trials should start: above the rungs from the lowest on that are not trusted."""
    untrusted = set(untrusted_rungs(state, plan, trust))
    rung = 0
    while rung in untrusted:
        rung += 1
    return rung
