"""Proposals as a whole: valid, reproducible, none twice, in time, and better than chance."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from frostline_operator.api.checks import possible
from frostline_operator.api.study import HPOStudySpec
from frostline_operator.engine import proposals, space
from frostline_operator.engine.actions import CreateTrial
from frostline_operator.engine.proposals import batch
from frostline_operator.engine.proposals.observations import MOST
from frostline_operator.engine.proposals.process import Process, Values
from frostline_operator.engine.state import RungResult, StudyState, Trial
from tests.unit.engine.world import Trouble, World, study

PARAMETERS: list[dict[str, Any]] = [
    {"name": "lr", "type": "Float", "min": 1e-4, "max": 1e-1, "scale": "Log"},
    {"name": "name", "type": "Categorical", "values": ["AdamW", "SGD"], "bind": "training.optimizer.name"},
    {"name": "momentum", "type": "Float", "min": 0.0, "max": 0.9, "when": {"parameter": "name", "values": ["SGD"]}},
    {"name": "accumulation", "type": "Int", "min": 1, "max": 9},
    {"name": "batchSize", "type": "Categorical", "values": [5, 10, 20]},
    {"name": "weightDecay", "type": "Constant", "value": 0.1},
]


def spec(**search: Any) -> HPOStudySpec:
    given_ = {"algorithm": "ASHA", "sampler": "Model", "trials": 30, "parallelism": 3, **search}
    return study(search=given_, parameters=PARAMETERS)


def quality(assignment: space.Assignment) -> float:
    """Lower is better: the best learning rate is 0.01, the best batch 5."""
    momentum = float(assignment.get("momentum", 0.3))
    return 1 + abs(math.log10(float(assignment["lr"])) + 2) + float(assignment["batchSize"]) / 40 + momentum / 5


def state_of(known: HPOStudySpec, count: int, rungs: int = 3, seed: int = 0) -> StudyState:
    """A study in the middle: every second trial of a rung has come to the next one, some have failed."""
    state = StudyState()
    for index, assignment in enumerate(space.assignments(known.parameters, known.search, count)):
        reached = next(r for r in range(rungs) if r == rungs - 1 or index % 2 ** (r + 1))
        values = [quality(assignment) - 0.2 * r for r in range(reached + 1)]
        results = [RungResult(r, "Completed", v, 1, 10, "run") for r, v in enumerate(values)]
        if index % 11 == seed % 11:
            results[-1] = RungResult(reached, "Diverged", None, 1, 10, "run")
        state.trials[index] = Trial(index, f"s-{index:04d}", 0, assignment, reached, tuple(results))
    return state


@given(seed=st.integers(0, 10**6), count=st.integers(0, 40), wanted=st.integers(1, 12))
@settings(max_examples=25, deadline=None)
def test_proposals_are_configurations_of_the_space_and_none_comes_twice(seed: int, count: int, wanted: int) -> None:
    known = spec(seed=seed)
    state = state_of(known, count, seed=seed)
    proposed = proposals.propose(known, state, 2, wanted)
    assert len(proposed) == wanted
    everything = [t.assignment for t in state.trials.values()] + proposed
    assert len({space.identity(a) for a in everything}) == count + wanted
    for assignment in proposed:
        assert space.active(known.parameters, assignment | {"momentum": 0.5}).keys() == assignment.keys()
        for parameter in known.parameters:
            if parameter.name in assignment:
                assert possible(parameter, assignment[parameter.name])
    assert proposals.propose(known, state, 2, wanted) == proposed


@given(order=st.permutations(range(24)))
@settings(max_examples=10, deadline=None)
def test_the_order_in_which_results_came_does_not_matter(order: list[int]) -> None:
    known = spec()
    state = state_of(known, 24)
    shuffled = StudyState(trials={i: state.trials[i] for i in order})
    assert proposals.propose(known, shuffled, 2, 4) == proposals.propose(known, state, 2, 4)


def test_it_starts_as_random_does() -> None:
    drawn = space.assignments(spec().parameters, spec().search, 8)
    assert drawn == space.assignments(spec().parameters, spec(sampler="Random").search, 8)
    assert proposals.propose(spec(), StudyState(), 2, 8) == drawn


def test_one_in_four_is_drawn_at_random_for_good() -> None:
    known = spec(trials=200)
    state = state_of(known, 100)
    proposed = proposals.propose(known, state, 2, 8)
    drawn = space.fresh(
        known.parameters, known.search, {space.identity(t.assignment) for t in state.trials.values()}, 2
    )
    assert [proposed[0], proposed[4]] == drawn


def test_without_any_usable_result_it_draws_at_random() -> None:
    known = spec()
    state = state_of(known, 12)
    for index, trial in state.trials.items():
        state.trials[index] = replace(trial, results=(RungResult(0, "Failed", None, 1, 0, "run"),))
    expected = space.assignments(known.parameters, known.search, 16)[12:]
    assert proposals.propose(known, state, 2, 4) == expected


def test_a_finite_space_is_proposed_completely_and_then_ends() -> None:
    small = study(
        search={"algorithm": "ASHA", "sampler": "Model", "trials": 30},
        parameters=[{"name": "accumulation", "type": "Int", "min": 1, "max": 30}],
    )
    state = StudyState()
    for index in range(0, 40, 4):
        for position, assignment in enumerate(proposals.propose(small, state, 2, 4), index):
            result = RungResult(0, "Completed", abs(float(assignment["accumulation"]) - 17) + 1, 1, 10, "run")
            state.trials[position] = Trial(position, f"s-{position}", 0, assignment, 0, (result,))
    assert sorted(int(t.assignment["accumulation"]) for t in state.trials.values()) == list(range(1, 31))


@pytest.mark.parametrize("direction", ["Minimize", "Maximize"])
def test_it_proposes_where_the_good_ones_are(direction: str) -> None:
    objective = {"metric": "accuracy" if direction == "Maximize" else "loss", "direction": direction}
    known = study(
        objective=objective, search={"algorithm": "ASHA", "sampler": "Model", "trials": 99}, parameters=PARAMETERS
    )
    state = state_of(known, 32)
    if direction == "Maximize":
        for index, trial in state.trials.items():
            results = [replace(r, value=None if r.value is None else 1 - r.value / 10) for r in trial.results]
            state.trials[index] = replace(trial, results=tuple(results))
    proposed = proposals.propose(known, state, 2, 12)
    by_model = [quality(a) for i, a in enumerate(proposed) if i % 4]
    at_random = [quality(t.assignment) for t in state.trials.values()]
    assert np.median(by_model) < np.quantile(at_random, 0.15)


def test_a_thousand_trials_give_the_model_no_more_to_do_than_a_hundred(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its cost grows with the third power of that; how long it takes is measured in benchmarks/samplers."""
    given_: list[int] = []

    class Counted(Process):
        def __init__(self, seen: Values, *rest: Any) -> None:
            given_.append(len(seen.values))
            super().__init__(seen, *rest)

    monkeypatch.setattr(batch, "Process", Counted)
    known = spec(trials=2000)
    for count in (100, 1000):
        assert len(proposals.propose(known, state_of(known, count, rungs=4), 3, 4)) == 4
    assert max(given_) <= MOST


@given(
    seed=st.integers(0, 10**6),
    search=st.fixed_dictionaries(
        {
            "trials": st.integers(1, 24),
            "parallelism": st.integers(1, 4),
            "eta": st.integers(2, 3),
            "maxTrialsPerRun": st.sampled_from([1, 4, 16]),
        }
    ),
    trouble=st.builds(
        Trouble,
        lost=st.sampled_from([0.0, 0.2]),
        stopped=st.sampled_from([0.0, 0.2]),
        diverging=st.frozensets(st.integers(0, 10), max_size=4),
        faulty=st.frozensets(st.integers(0, 10), max_size=1),
        unseen=st.sampled_from([None, 0.5]),
    ),
)
@settings(max_examples=20, deadline=None)
def test_a_study_ends_as_others_do(seed: int, search: dict[str, Any], trouble: Trouble) -> None:
    world = World(spec(**search), seed, trouble)
    state = world.play()
    assert len({space.identity(t.assignment) for t in state.trials.values()}) == len(state.trials)
    if state.finished is not None and state.finished.reason == "Completed":
        assert len(state.trials) == search["trials"]


@pytest.mark.parametrize("seed", range(3))
def test_killed_before_or_after_the_state_is_saved_a_study_loses_nothing_and_draws_nothing_twice(seed: int) -> None:
    """What a tick decided and did not save is decided anew, from results that may have come meanwhile."""
    adapter = TypeAdapter(dict[int, Trial])
    chance = random.Random(seed)
    world = World(spec(trials=24, parallelism=2), seed)
    saved: dict[int, Trial] = {}
    for _ in range(400):
        before = world.state.copy()
        world.tick()
        if chance.random() < 0.3:  # killed before it was saved: nothing was started either
            world.state = before
            world.log = [a for a in world.log if not isinstance(a, CreateTrial) or a.index in before.trials]
            if not world.state.active_runs:
                continue
        else:
            assert all(world.state.trials[i].assignment == t.assignment for i, t in saved.items()), "drawn otherwise"
            saved = adapter.validate_python(json.loads(adapter.dump_json(world.state.trials)), strict=False)
            world.state.trials = dict(saved)
        if world.state.finished is not None and not world.state.active_runs:
            break
        if world.state.active_runs:
            world.end_one()
    assert world.state.finished is not None and len(world.state.trials) == 24
    assert len({space.identity(t.assignment) for t in world.state.trials.values()}) == 24


def test_a_study_starts_so_many_at_a_time_that_one_fit_serves_several() -> None:
    world = World(spec(trials=64, parallelism=1, maxTrialsPerRun=1), 3)
    created = []
    while world.state.finished is None:
        created.append(sum(isinstance(a, CreateTrial) for a in world.tick()))
        if world.state.active_runs:
            world.end_one()
    assert {n for n in created if n} == {proposals.BATCH}
