"""When trials enter, climb and leave: synchronous brackets (Successive Halving, Hyperband) and ASHA."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from frostline_operator.engine.actions import EndTrial, Promote
from frostline_operator.engine.plan import Plan
from frostline_operator.engine.promotion import Score, select
from frostline_operator.engine.schedule import Bracket
from frostline_operator.engine.state import StudyState, Trial

Move = Promote | EndTrial


def score(trial: Trial, rung: int) -> Score | None:
    """A trial's score at a rung, None where it has no result there."""
    result = trial.result_at(rung)
    if result is None:
        return None
    return Score(trial.index, result.value if result.state == "Completed" else None, result.layers)


def scores(trials: Iterable[Trial], rung: int) -> list[Score]:
    """The scores of all trials that have a result at a rung."""
    return [found for trial in trials if (found := score(trial, rung)) is not None]


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
