"""The status of a study: conditions, phase, the rung table, the budget."""

import json
from typing import Any

import pytest

from frostline_operator.api.status import HPOStudyStatus
from frostline_operator.engine.state import RunState
from frostline_operator.engine.summary import summarize
from frostline_operator.engine.transition import RunEnded, settle
from frostline_operator.kubernetes.status.conditions import Conditions
from frostline_operator.kubernetes.status.study import Draft, Situation, budget_lines, set_conditions, study_status
from frostline_operator.runtime import protocol
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
    summary = summarize(where.observation)
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
    assert status.progress == "8/8" and status.rung == "3/3"
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


def test_a_study_that_cannot_run_says_so_in_its_phase_and_in_one_word() -> None:
    invalid = draft()
    invalid.refuse("spec.parameters: wrong")
    assert invalid.fields is not None and (invalid.fields["phase"], invalid.fields["reason"]) == ("Invalid", "Invalid")
    waits = draft()
    waits.await_profile(problem("QuotaExceeded"))
    assert waits.fields is not None
    assert (waits.fields["phase"], waits.fields["reason"]) == ("Blocked", "QuotaExceeded")


def problem(reason: str, waits: bool = False) -> protocol.Trouble:
    return protocol.Trouble(reason, "words", waits)


@pytest.mark.parametrize(
    ("reason", "waits", "running", "phase"),
    [
        ("Unschedulable", False, 0, "Blocked"),
        ("Unschedulable", False, 1, "Running"),
        ("Queued", True, 0, "Running"),
        (None, False, 0, "Running"),
    ],
)
def test_blocked_is_a_study_none_of_whose_runs_runs(reason: str | None, waits: bool, running: int, phase: str) -> None:
    world = World(study(), 1)
    world.tick()
    first, second = world.state.active_runs
    if running:
        world.state.update_run(first.name, state=RunState.RUNNING)
    troubles = {} if reason is None else {second.name: problem(reason, waits)}
    where = Situation(world.observe(), troubles, "there is no device", None)
    begun, summary = draft(), summarize(where.observation)
    set_conditions(begun, where, summary)
    status = study_status(begun, where, summary)
    assert (status["phase"], status["reason"]) == (phase, reason or "")


def test_one_run_is_running() -> None:
    world = World(study(search={"algorithm": "SuccessiveHalving", "trials": 2, "parallelism": 1}), 1)
    world.tick()
    [run] = world.state.active_runs
    world.state.update_run(run.name, state=RunState.RUNNING)
    document = shown(world)
    assert document["message"] == "1 run is under way"
    assert [c["message"] for c in document["conditions"] if c["type"] == "Progressing"] == ["1 run is running"]


def test_a_run_without_space_is_told_by_the_pause_and_not_as_an_attempt_that_was_used_up() -> None:
    world = World(study(), 1)
    world.tick()
    run = world.state.active_runs[0]
    settle(world.state, RunEnded(run.name, None, 1.0, message="full", no_space=True, at=world.now), None)
    begun = draft()
    where = situation(world)
    set_conditions(begun, where, summarize(where.observation))
    assert "True" not in [c["status"] for c in begun.conditions.listed() if c["type"] == "RunsLost"]


def test_while_runs_are_lost_a_condition_says_which_and_what_helps() -> None:
    world = World(study(), 1)
    world.tick()
    run = world.state.active_runs[0]
    words = "its container ran out of main memory (OOMKilled); raise resources.limits.memory in the template"
    settle(world.state, RunEnded(run.name, None, 1.0, message=words), None)
    begun = draft()
    where = situation(world)
    set_conditions(begun, where, summarize(where.observation))
    said = next(c for c in begun.conditions.listed() if c["type"] == "RunsLost")
    assert said["status"] == "True" and words in said["message"] and run.name in said["message"]
    assert [(e.type, e.reason) for e in begun.events if e.reason == "RunLost"] == [("Warning", "RunLost")]
    world.play()
    after = Draft(Conditions(begun.conditions.listed(), 1), {}, 1, 2e9)
    where = situation(world)
    set_conditions(after, where, summarize(where.observation))
    said = next(c for c in after.conditions.listed() if c["type"] == "RunsLost")
    assert (said["status"], said["reason"]) == ("False", "Recovered")
