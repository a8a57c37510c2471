"""A winner as a study of its own: the configuration that won, alone, in full."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frostline_operator.api.bindings import bind
from frostline_operator.engine.plan import make_plan
from frostline_operator.engine.space import Assignment
from frostline_operator.engine.winner import winner_study
from tests.unit.engine.world import PROFILE
from tests.unit.report.test_best import FAMILIES, draw, read, study


@pytest.mark.parametrize("family", FAMILIES)
@given(seed=st.integers(0, 2**32))
@settings(max_examples=20, deadline=None)
def test_it_trains_the_same_configuration_in_one_trial_with_all_layers(family: str, seed: int) -> None:
    made = study(family)
    assignment = draw(made.spec.parameters, seed)
    plan = make_plan(made.spec, PROFILE)
    alone = winner_study(made, plan, assignment)
    constants: Assignment = {p.name: p.value for p in alone.spec.parameters if p.value is not None}
    assert len(constants) == len(alone.spec.parameters)
    assert read(bind(alone.spec.parameters, alone.spec.base, constants)) == read(
        bind(made.spec.parameters, made.spec.base, assignment)
    )
    assert {name: assignment[name] for name in constants} == constants
    assert assignment.keys() - constants.keys() <= {"nesterov", "momentum"}, "what AdamW does not read"
    own = make_plan(alone.spec, PROFILE)
    [rung] = own.rungs
    assert (own.trials, rung.layers, rung.tokens) == (1, PROFILE.layers, plan.rungs[-1].tokens)
    assert alone.spec.search.seed == made.spec.search.seed


def test_budget_and_goal_of_the_search_do_not_end_it_and_a_long_name_is_cut() -> None:
    made = study("MLP")
    spec = made.spec
    limits = {"tokens": 1, "wall_clock": "1s"}
    made = made.model_copy(
        update={
            "metadata": made.metadata.model_copy(update={"name": "a" * 40}),
            "spec": spec.model_copy(
                update={
                    "budget": spec.budget.model_copy(update=limits),
                    "objective": spec.objective.model_copy(update={"goal": 3.0}),
                }
            ),
        }
    )
    alone = winner_study(made, make_plan(spec, PROFILE), draw(spec.parameters, 1))
    assert (alone.spec.budget.tokens, alone.spec.budget.wall_clock, alone.spec.objective.goal) == (None, None, None)
    assert alone.metadata.name == "a" * 35 + "-best"
