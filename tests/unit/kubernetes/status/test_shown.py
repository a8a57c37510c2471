"""What people see of a study: status, conditions, HPOTrials, events."""

import json
from typing import Any, cast

import pytest

from frostline_operator.api.status import HPOStudyStatus
from frostline_operator.api.trial import HPOTrial, HPOTrialStatus
from frostline_operator.crds.fixed import changed_sections, fixed_part
from frostline_operator.engine.plan import make_plan
from frostline_operator.engine.summary import summarize
from frostline_operator.kubernetes.client.api import EVENTS, TRIALS, Api, ApiError
from frostline_operator.kubernetes.objects.jobs import StudyRef
from frostline_operator.kubernetes.status.conditions import Conditions, budget_lines, study_status
from frostline_operator.kubernetes.status.events import Recorder
from frostline_operator.kubernetes.status.trials import TrialWriter
from tests.unit.engine.world import PROFILE, Trouble, World, study
from tests.unit.kubernetes.fakes import FakeApi

STUDY = StudyRef("space", "s", "01234567-89ab", {})


def ended(**changes: Any) -> World:
    world = World(study(**changes), 5, Trouble(lost=0.1, diverging=frozenset({1})))
    for _ in range(3000):
        world.tick()
        if world.state.finished and not world.state.active_runs:
            return world
        if world.state.active_runs:
            world.end_one()
    raise AssertionError("it never ends")


def shown(world: World, conditions: Conditions | None = None) -> dict[str, Any]:
    seen = world.observe()
    return study_status(seen, summarize(seen), "Running", "words", conditions or Conditions([], 1), 1)


def test_the_status_is_what_the_api_says_it_is() -> None:
    world = ended(budget={"tokens": 100_000, "wallClock": "10h"})
    conditions = Conditions([], 3)
    conditions.set("Accepted", True, "Valid", "the study is valid", 1e9)
    document = shown(world, conditions)
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


def test_conditions_keep_the_time_of_their_last_change() -> None:
    conditions = Conditions([], 1)
    assert conditions.set("Progressing", True, "Running", "one", 1e9)
    assert not conditions.set("Progressing", True, "Running", "two", 1e9 + 60)
    [kept] = conditions.listed()
    assert (kept["message"], kept["lastTransitionTime"]) == ("two", "2001-09-09T01:46:40Z")
    later = Conditions(conditions.listed(), 2)
    assert later.set("Progressing", False, "Suspended", "three", 1e9 + 120)
    [changed] = later.listed()
    assert (changed["lastTransitionTime"], changed["observedGeneration"]) == ("2001-09-09T01:48:40Z", 2)
    assert not later.clear("NeverSaid", "x", "x", 1e9)
    assert later.holds("Progressing") is False


def test_budget_lines_tell_reserved_from_spent() -> None:
    spec = study(budget={"tokens": 10_000})
    world = World(spec, 1)
    world.tick()
    [tokens, seconds] = budget_lines(spec.budget, world.state, world.now)
    assert tokens.limit == 10_000 and tokens.spent == 0 and tokens.reserved > 0
    assert seconds.name == "gpuSeconds" and seconds.limit is None


def write(writer: TrialWriter, world: World) -> None:
    """Everything that is to be seen of the world's trials, as the publisher's threads would."""
    writer.show(world.state, make_plan(world.spec, PROFILE))
    while not writer.write():
        pass


def test_trials_are_written_once_and_only_where_they_changed() -> None:
    world, api = World(study(), 5), FakeApi()
    writer = TrialWriter(cast(Api, api), STUDY)
    plan = make_plan(world.spec, PROFILE)
    while not (world.state.finished and not world.state.active_runs):
        world.tick()
        write(writer, world)
        before = len(api.writes)
        assert writer.show(world.state, plan) and writer.write()
        assert len(api.writes) == before
        if world.state.active_runs:
            world.end_one()
    write(writer, world)
    items, _ = api.list(TRIALS, "space")
    assert len(items) == len(world.state.trials)
    for item in items:
        trial = world.state.trials[item["spec"]["index"]]
        status = HPOTrialStatus.model_validate(item["status"])
        assert status.state == trial.outcome
        assert [r.value for r in status.rung_results] == [r.value for r in trial.results]
        HPOTrial.model_validate({k: item[k] for k in ("apiVersion", "kind", "metadata", "spec", "status")})

    written = len(api.writes)
    write(TrialWriter(cast(Api, api), STUDY), world)
    assert len(api.writes) == written, "an operator that starts again has nothing to write"


def test_a_trial_that_somebody_deleted_is_made_again() -> None:
    world, api = World(study(), 5), FakeApi()
    writer = TrialWriter(cast(Api, api), STUDY)
    world.tick()
    write(writer, world)
    del api.items[("hpotrials", "space", "s-0000")]
    write(TrialWriter(cast(Api, api), STUDY), world)
    assert ("hpotrials", "space", "s-0000") in api.items


def test_events_are_not_said_again_and_never_fail() -> None:
    api = FakeApi()
    recorder = Recorder(cast(Api, api), STUDY)
    recorder.say("RunLost", "x: no record")
    recorder.say("RunLost", "x: no record")
    [event] = api.list(EVENTS, "space")[0]
    assert (event["type"], event["involvedObject"]["uid"]) == ("Warning", STUDY.uid)
    api.fail = ApiError(403, "Forbidden", "no")
    recorder.say("Finish", "done")
    for number in range(100):
        recorder.say("Other", str(number))
    assert len(api.list(EVENTS, "space")[0]) <= 30


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"suspend": True}, []),
        ({"budget": {"tokens": 5}}, []),
        ({"search": {"algorithm": "SuccessiveHalving", "trials": 8, "parallelism": 9}}, []),
        ({"search": {"algorithm": "SuccessiveHalving", "trials": 9, "parallelism": 2}}, ["spec.search.trials"]),
        ({"training": {"batchSize": 6, "sequenceLength": 2}}, ["spec.training"]),
    ],
)
def test_what_must_not_change(change: dict[str, Any], expected: list[str]) -> None:
    assert changed_sections(fixed_part(study()), study(**change)) == expected
