"""What a study came to: success only with a result at the top rung, and what was lost otherwise."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frostline_operator.engine.outcome import at_stake, decided, exhausted, highest_result
from frostline_operator.engine.plan import make_plan
from frostline_operator.engine.state import Finished, RungResult, StudyState, Trial
from frostline_operator.engine.tick import advance
from frostline_operator.engine.transition import RunEnded, apply, settle

from .test_advance import budgets, searches, troubles
from .world import PROFILE, Trouble, World, study

SEARCH = {"algorithm": "SuccessiveHalving", "trials": 4, "parallelism": 2, "maxTrialsPerRun": 1}
OOM = "its container ran out of main memory (OOMKilled); raise resources.limits.memory in the template"


def ended(world: World) -> Finished:
    finished = world.play().finished
    assert finished is not None
    return finished


def lose_runs_from(world: World, rung: int) -> Finished:
    """Play with every run of this rung and above lost, with the words of a pod that was killed for its memory."""
    for _ in range(500):
        for action in advance(world.observe()):
            apply(world.state, action)
        if not world.state.active_runs:
            assert world.state.finished is not None
            return world.state.finished
        run = world.state.active_runs[0]
        if run.rung >= rung:
            settle(world.state, RunEnded(run.name, None, 1.0, message=OOM))
        else:
            settle(world.state, world._ending(run, 1.0))
    raise AssertionError("no end in sight")


def test_a_study_with_a_result_at_the_top_rung_is_completed() -> None:
    finished = ended(World(study(search=SEARCH)))
    assert (finished.reason, finished.message) == ("Completed", "every trial has been decided")


def test_a_study_whose_top_rung_nobody_reached_has_failed_and_says_what_was_lost_and_what_would_help() -> None:
    world = World(study(search=SEARCH))
    finished = lose_runs_from(world, 1)
    top = make_plan(world.spec, PROFILE).top
    assert finished.reason == "Failed"
    assert finished.message.startswith(
        f"no trial has a usable result at the top rung ({top}); the best one is of rung 0: 2 trials failed (8 attempts"
    )
    assert OOM in finished.message
    assert finished.best is not None, "the best so far is still told"


def test_a_study_whose_every_trial_diverges_has_failed_and_says_so() -> None:
    finished = ended(World(study(search=SEARCH), trouble=Trouble(diverging=frozenset(range(4)))))
    assert finished.reason == "Failed"
    assert finished.message.startswith("no trial has a usable result: 4 trials diverged (no finite objective;")
    assert finished.best is None


def test_a_budget_that_ends_below_the_top_rung_is_an_ordinary_end_that_says_which_rung_the_best_is_of() -> None:
    world = World(study(search=SEARCH, budget={"tokens": 500}))
    finished = ended(world)
    top = make_plan(world.spec, PROFILE).top
    assert finished.reason == "BudgetExhausted"
    assert f"no trial reached the top rung ({top}), the best one is of rung" in finished.message


def test_a_budget_that_ends_without_any_result_is_a_failure() -> None:
    state, plan = StudyState(), make_plan(study(search=SEARCH), PROFILE)
    reason, message = exhausted(state, plan, "wall_clock")
    assert reason == "Failed"
    assert message == "budget.wallClock allows no further run, and no trial has a usable result; raise it"


@given(
    search=searches,
    trouble=troubles,
    budget=budgets,
    seed=st.integers(0, 10**6),
)
@settings(max_examples=60, deadline=None)
def test_a_study_is_a_success_exactly_where_its_best_is_of_the_top_rung_or_its_budget_ended_it(
    search: dict[str, Any], trouble: Trouble, budget: dict[str, Any], seed: int
) -> None:
    world = World(study(search=search, budget=budget), seed, trouble)
    finished, top = ended(world), make_plan(world.spec, PROFILE).top
    rung = highest_result(world.state)
    if finished.reason == "Completed":
        assert rung == top
    elif finished.reason == "Failed":
        assert rung != top and finished.message
    else:
        assert rung is not None
    assert (finished.best is None) == (rung is None)


def result(state: Any, rung: int = 0) -> RungResult:
    return RungResult(rung, state, 1.0 if state == "Completed" else None, 1, 100, "r")


@pytest.mark.parametrize(("state", "stake"), [("Completed", True), ("Diverged", False), ("Failed", False)])
def test_only_a_usable_result_is_at_stake(state: str, stake: bool) -> None:
    trial = Trial(0, "s-0000", 0, {"lr": 0.1}, 0, (result(state),))
    assert at_stake(StudyState(trials={0: trial})) is stake


def test_a_study_that_has_not_begun_has_nothing_at_stake() -> None:
    assert not at_stake(StudyState())


def test_what_most_trials_failed_for_is_said() -> None:
    rows = [RungResult(0, "Failed", None, 1, 0, "r", words) for words in ("a", "b", "b")]
    trials = {i: Trial(i, f"s-{i}", 0, {}, 0, (row,)) for i, row in enumerate(rows)}
    assert decided(StudyState(trials=trials), make_plan(study(search=SEARCH), PROFILE)) == (
        "Failed", "no trial has a usable result: 3 trials failed (b)",
    )  # fmt: skip
