"""What a study came to: whether its end is a success, what it lacks, and whether it has anything to lose.

A study is a success once a trial has a usable result at the highest rung: only there are trials trained as they are
meant to be. One whose budget ends before is an ordinary end with the best so far, and says of which rung that is; one
without any usable result has failed, whatever ended it.
"""

from __future__ import annotations

from collections import Counter

from pydantic.alias_generators import to_camel

from frostline_operator.engine.plan import Plan
from frostline_operator.engine.state import FinishReason, StudyState

Ending = tuple[FinishReason, str]
"""Why a study is over, in a word and in a sentence."""


def highest_result(state: StudyState) -> int | None:
    """The highest rung at which a trial has a usable result; None where no trial has one."""
    rungs = [r.rung for trial in state.trials.values() for r in trial.results if r.state == "Completed"]
    return max(rungs, default=None)


def at_stake(state: StudyState) -> bool:
    """Whether a study has results that a change of its fixed sections would make worthless.

    Before its first result anything may be changed: the study then begins anew.
    """
    return highest_result(state) is not None or bool(state.awaiting_runs)


def decided(state: StudyState, plan: Plan) -> Ending:
    """How a study ends whose trials have all been decided."""
    best = highest_result(state)
    if best == plan.top:
        return "Completed", "every trial has been decided"
    if best is None:
        return "Failed", f"no trial has a usable result: {_lost(state, 0)}"
    said = f"no trial has a usable result at the top rung ({plan.top}); the best one is of rung {best}"
    return "Failed", f"{said}: {_lost(state, best + 1)}"


def exhausted(state: StudyState, plan: Plan, limit: str) -> Ending:
    """How a study ends whose budget allows no further run.

    Args:
        state: of the study.
        plan: of the study.
        limit: the field of the budget, as Python names it.
    """
    said = f"budget.{to_camel(limit)} allows no further run"
    best = highest_result(state)
    if best is None:
        lost = _lost(state, 0)
        return "Failed", f"{said}, and no trial has a usable result; raise it{f': {lost}' if lost else ''}"
    if best < plan.top:
        return "BudgetExhausted", f"{said}; no trial reached the top rung ({plan.top}), the best one is of rung {best}"
    return "BudgetExhausted", said


def _lost(state: StudyState, rung: int) -> str:
    """What became of the results from a rung on: how many diverged or failed, and the reason that most of them have."""
    results = [r for trial in state.trials.values() for r in trial.results if r.rung >= rung and r.state != "Completed"]
    diverged = sum(1 for result in results if result.state == "Diverged")
    failed = [result.message for result in results if result.state == "Failed"]
    parts = []
    if diverged:
        what = "1 trial" if diverged == 1 else f"{diverged} trials"
        parts.append(f"{what} diverged (no finite objective; lower the learning rates, or report the objective)")
    if failed:
        what = "1 trial" if len(failed) == 1 else f"{len(failed)} trials"
        [(reason, _)] = Counter(failed).most_common(1)
        parts.append(f"{what} failed ({reason or 'without a message'})")
    return "; ".join(parts)
