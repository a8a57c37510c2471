"""Who goes on: ranking the results of a rung, and when trials enter, climb and leave.

Rules, each with a test: a finite value ranks by the objective's direction; an infinity on the good side is as broken as
NaN; NaN, infinities and failures rank last and never block a rung; ties go to the trial that was drawn first.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from scipy.stats import spearmanr

from frostline_operator.api.search import TrustSpec
from frostline_operator.engine.actions import EndTrial, Promote
from frostline_operator.engine.plan import Plan
from frostline_operator.engine.schedule import Bracket
from frostline_operator.engine.state import StudyState, Trial


@dataclass(frozen=True)
class Score:
    """One trial's outcome at one rung, as far as ranking is concerned."""

    trial: int
    """Index of the trial, which breaks ties."""
    value: float | None
    """None for a trial that failed at this rung."""
    layers: int
    """z it was really trained with: only results of equal fidelity are ranked against each other."""

    @property
    def usable(self) -> bool:
        """Whether it can ever be promoted."""
        return self.value is not None and math.isfinite(self.value)


def ranked(scores: Sequence[Score], maximize: bool) -> list[Score]:
    """Best first."""

    def key(score: Score) -> tuple[bool, float, int]:
        if not score.usable:
            return (True, 0.0, score.trial)
        assert score.value is not None
        return (False, -score.value if maximize else score.value, score.trial)

    return sorted(scores, key=key)


def select(scores: Sequence[Score], quota: int, maximize: bool) -> list[int]:
    """The trials among the best `quota`, each group of equal layers sending its own share, best first.

    Shares are by largest remainder, so that together they are the quota; a remainder's tie goes to the deeper group.
    Trials without a usable value are never selected, so fewer than `quota` may come back.
    """
    groups: dict[int, list[Score]] = {}
    for score in scores:
        groups.setdefault(score.layers, []).append(score)
    quota = min(quota, len(scores))
    if not scores or quota <= 0:
        return []
    shares = {z: quota * len(group) // len(scores) for z, group in groups.items()}
    left = quota - sum(shares.values())
    by_remainder = sorted(groups, key=lambda z: (-(quota * len(groups[z]) % len(scores)), -z))
    for z in by_remainder[:left]:
        shares[z] += 1
    chosen: list[Score] = []
    for z, group in groups.items():
        chosen += [score for score in ranked(group, maximize)[: shares[z]] if score.usable]
    return [score.trial for score in ranked(chosen, maximize)]


def rank_correlation(lower: dict[int, float], upper: dict[int, float]) -> float | None:
    """Spearman's rho between two rungs over the trials that have a finite value at both; None below three of them.

    The trials that reached both rungs are the better ones only, so this understates the agreement over all trials.
    """
    both = [t for t in sorted(lower.keys() & upper.keys()) if math.isfinite(lower[t]) and math.isfinite(upper[t])]
    if len(both) < 3:
        return None
    low, high = [lower[t] for t in both], [upper[t] for t in both]
    if len(set(low)) == 1 or len(set(high)) == 1:
        return None
    return float(spearmanr(low, high).statistic)


Move = Promote | EndTrial


def score(trial: Trial, rung: int) -> Score | None:
    """A trial's score at a rung, None where it has no result there."""
    result = trial.result_at(rung)
    if result is None:
        return None
    return Score(trial.index, result.value if result.state == "Completed" else None, result.layers)


def scores(trials: Iterable[Trial], rung: int) -> list[Score]:
    """The scores of all trials that have a result at a rung."""
    return [measured for trial in trials if (measured := score(trial, rung)) is not None]


def ended_by_result(state: StudyState, plan: Plan) -> Iterator[EndTrial]:
    """Ends of trials whose last result settles it: at the top, or one that can never be promoted."""
    for trial in list(state.trials.values()):
        result = trial.result_at(trial.rung) if trial.outcome is None else None
        if result is None:
            continue
        if result.state != "Completed":
            yield EndTrial(trial.index, "Failed")
        elif trial.rung == plan.top:
            yield EndTrial(trial.index, "Completed")


def synchronous_moves(state: StudyState, plan: Plan, bracket: Bracket, maximize: bool) -> list[Move]:
    """Promotions and drops of the rungs of a bracket that have just been completed.

    A rung is complete once every trial that was let into it has a result there. All its trials are then decided at
    once, so the outcome does not depend on the order in which results arrived.
    """
    members = [trial for trial in state.trials.values() if trial.bracket == bracket.index]
    if len(members) < bracket.sizes[0]:
        return []
    moves: list[Move] = []
    for rung in range(bracket.first_rung, plan.top):
        entered = [trial for trial in members if trial.rung >= rung]
        here = scores(entered, rung)
        if len(here) < len(entered):
            break
        undecided = {t.index for t in entered if t.rung == rung and t.outcome is None}
        if not undecided:
            continue
        chosen = set(select(here, plan.size(bracket, rung + 1), maximize))
        moves += [Promote(index, rung, rung + 1) for index in sorted(chosen & undecided)]
        moves += [EndTrial(index, "Dropped") for index in sorted(undecided - chosen)]
        break
    return moves


def asynchronous_promotions(
    state: StudyState, plan: Plan, eta: int, maximize: bool, entry_closed: bool
) -> list[Promote]:
    """ASHA: every trial among the best 1/eta of its rung's finished ones goes up at once (Li et al. 2020, Algorithm 2).

    Once nobody else can come into a rung, it sends up at least one trial, so that a small study reaches the top.
    """
    promotions: list[Promote] = []
    closed = entry_closed
    for rung in range(plan.top):
        here = scores(state.trials.values(), rung)
        closed = closed and not any(trial.waiting and trial.rung <= rung for trial in state.trials.values())
        gone = sum(1 for trial in state.trials.values() if trial.rung > rung and trial.result_at(rung) is not None)
        quota = len(here) // eta
        if closed and gone == 0:
            quota = max(1, quota)
        new = [
            i for i in select(here, quota, maximize) if state.trials[i].rung == rung and state.trials[i].outcome is None
        ]
        promotions += [Promote(index, rung, rung + 1) for index in new]
        closed = closed and not new
    return promotions


def best_trial(state: StudyState, plan: Plan, maximize: bool) -> Score | None:
    """The best usable result at the highest rung that has one; among different depths there, the deepest counts.

    A result of a lower rung never beats one of a higher rung, however good its value: they measure different things.
    """
    for rung in range(plan.top, -1, -1):
        usable = [score for score in scores(state.trials.values(), rung) if score.usable]
        if usable:
            deepest = max(score.layers for score in usable)
            return ranked([score for score in usable if score.layers == deepest], maximize)[0]
    return None


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


def untrusted_rungs(measured: Sequence[Correlation], trust: TrustSpec) -> list[int]:
    """Rungs whose correlation with the next one is below the threshold, over enough trials to say so."""
    return [
        rung
        for rung, (rho, count) in enumerate(measured)
        if rho is not None and count >= trust.min_trials and rho < trust.threshold
    ]


def lowest_trusted_rung(state: StudyState, plan: Plan, trust: TrustSpec) -> int:
    """Where new trials should start: above the rungs from the lowest on that are not trusted."""
    untrusted = set(untrusted_rungs(correlations(state, plan), trust))
    rung = 0
    while rung in untrusted:
        rung += 1
    return rung
