"""The status of a study: conditions, phase, the rung table, the budget."""

import json
from typing import Any

from frostline_operator.api.status import HPOStudyStatus
from frostline_operator.engine.summary import summarize
from frostline_operator.kubernetes.status.conditions import Conditions
from frostline_operator.kubernetes.status.study import Draft, Situation, budget_lines, set_conditions, study_status
from tests.unit.engine.world import Trouble, World, study


def ended(**changes: Any) -> World:
    world = World(study(**changes), 5, Trouble(lost=0.1, diverging=frozenset({1})))
    for _ in range(3000):
        world.tick()
        if world.state.finished and not world.state.active_runs:
            return world
        if world.state.active_runs:
            world.end_one()
    raise AssertionError("it never ends")


def situation(world: World, **known: Any) -> Situation:
    return Situation(world.observe(), {}, "there is no device", None, **known)


def draft(status: dict[str, Any] | None = None, generation: int = 1, now: float = 1e9) -> Draft:
    current = status or {}
    return Draft(Conditions(current.get("conditions") or [], generation), current, generation, now)


def shown(world: World, begun: Draft | None = None) -> dict[str, Any]:
    begun = begun or draft()
    where = situation(world)
    summary = summarize(where.seen)
    set_conditions(begun, where, summary)
    return {**study_status(begun, where, summary), "conditions": begun.conditions.listed()}


def test_the_status_is_what_the_api_says_it_is() -> None:
    world = ended(budget={"tokens": 100_000, "wallClock": "10h"})
    begun = draft(generation=3)
    begun.accept()
    document = shown(world, begun)
    status = HPOStudyStatus.model_validate(document)
    assert status.best is not None and status.best.value == min(
        r.value for t in world.state.trials.values() for r in t.results if r.rung == 3 and r.value is not None
    )
    assert (
        status.trials.total
        == 8
        == sum(getattr(status.trials, name) for name in ("completed", "dropped", "failed", "stopped"))
    )
    assert status.progress == "8/8" and status.rung == "4/4"
    assert status.conditions[0].observed_generation == 3
    json.dumps(document, allow_nan=False)


def test_its_size_does_not_depend_on_the_number_of_trials() -> None:
    few = len(json.dumps(shown(ended(search={"algorithm": "Hyperband", "trials": 8, "parallelism": 4}))))
    many = len(json.dumps(shown(ended(search={"algorithm": "Hyperband", "trials": 64, "parallelism": 8}))))
    assert many < few * 1.2 < 64 * 1024


def test_budget_lines_tell_reserved_from_spent() -> None:
    spec = study(budget={"tokens": 10_000})
    world = World(spec, 1)
    world.tick()
    [tokens, seconds] = budget_lines(spec.budget, world.state, world.now)
    assert tokens.limit == 10_000 and tokens.spent == 0 and tokens.reserved > 0
    assert seconds.name == "gpuSeconds" and seconds.limit is None
