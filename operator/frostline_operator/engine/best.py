"""Which trial is the best so far."""

from __future__ import annotations

from frostline_operator.engine import algorithms
from frostline_operator.engine.plan import Plan
from frostline_operator.engine.promotion import Score, ranked
from frostline_operator.engine.state import StudyState


def best_trial(state: StudyState, plan: Plan, maximize: bool) -> Score | None:
    """The best usable result at the highest rung that has one; among different depths there, the deepest counts.

    A result of a lower rung never beats one of a higher rung, however good its value: they measure different things.
    """
    for rung in range(plan.top, -1, -1):
        usable = [score for score in algorithms.scores(state.trials.values(), rung) if score.usable]
        if usable:
            deepest = max(score.layers for score in usable)
            return ranked([score for score in usable if score.layers == deepest], maximize)[0]
    return None
