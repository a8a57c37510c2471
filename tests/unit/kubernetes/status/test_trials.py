"""HPOTrials are written beside the rounds of a study: all of them in the end, and only where they changed."""

import time
from collections.abc import Callable
from typing import Any, cast

import pytest

from frostline_operator.api.trial import HPOTrial, HPOTrialStatus
from frostline_operator.engine.plan import make_plan
from frostline_operator.kubernetes.client.api import TRIALS, Api, ApiError
from frostline_operator.kubernetes.objects.jobs import StudyRef
from frostline_operator.kubernetes.status.trials import Publisher, TrialWriter
from tests.unit.engine.world import PROFILE, Trouble, World, study
from tests.unit.kubernetes.fakes import FakeApi

STUDY = StudyRef("space", "s", "01234567-89ab", {})


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


def conditions(api: FakeApi, trial: str) -> dict[str, dict[str, Any]]:
    item = api.items[("hpotrials", "space", trial)]
    return {condition["type"]: condition for condition in item["status"]["conditions"]}


def test_a_trial_that_is_over_is_complete_or_failed_for_kubectl_wait() -> None:
    world, api = World(study(), 5, Trouble(diverging=frozenset({1}))), FakeApi()
    writer = TrialWriter(cast(Api, api), STUDY)
    world.tick()
    write(writer, world)
    assert conditions(api, "s-0000")["Complete"]["status"] == "False"
    while not (world.state.finished and not world.state.active_runs):
        world.end_one()
        world.tick()
    write(writer, world)
    outcomes = {trial.name: trial.outcome for trial in world.state.trials.values()}
    assert {"Completed", "Dropped", "Failed"} <= set(outcomes.values())
    for name, outcome in outcomes.items():
        said = conditions(api, name)
        assert said["Complete"]["status"] == str(outcome != "Failed"), (name, outcome)
        assert said["Complete"]["reason"] == outcome
        assert ("Failed" in said and said["Failed"]["status"] == "True") is (outcome == "Failed")
    diverged = conditions(api, "s-0001")["Failed"]
    assert diverged["reason"] == "Diverged"


def test_conditions_tell_the_generation_that_they_are_about_and_keep_their_times(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world, api = World(study(), 5), FakeApi()
    world.tick()
    monkeypatch.setattr(time, "time", lambda: 1e9)
    write(TrialWriter(cast(Api, api), STUDY), world)
    status = api.items[("hpotrials", "space", "s-0000")]["status"]
    assert status["observedGeneration"] == status["conditions"][0]["observedGeneration"] == 1
    monkeypatch.setattr(time, "time", lambda: 2e9)
    for _ in range(3):
        world.end_one()
        world.tick()
    write(TrialWriter(cast(Api, api), STUDY), world)
    [complete] = api.items[("hpotrials", "space", "s-0000")]["status"]["conditions"]
    assert complete["status"] == "False" and complete["lastTransitionTime"] == "2001-09-09T01:46:40Z"


class Book:
    """Something of several parts, which may be refused at first."""

    def __init__(self, parts: int, refusals: int = 0) -> None:
        self.left, self.refusals, self.goes = parts, refusals, 0

    def write(self) -> bool:
        self.goes += 1
        if self.refusals:
            self.refusals -= 1
            raise ApiError(500, "InternalError", "not now")
        self.left -= 1
        return self.left <= 0


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_everything_is_written_in_parts_and_refusals_are_tried_again() -> None:
    publisher = Publisher()
    publisher.start()
    easy, hard = Book(3), Book(1, refusals=1)
    publisher.submit(easy, at_once=True)
    publisher.submit(hard, at_once=True)
    until(lambda: easy.left == hard.left == 0)
    assert (easy.goes, hard.goes) == (3, 2)
    publisher.stop()


def test_changes_that_come_in_a_burst_are_written_together() -> None:
    publisher, book = Publisher(), Book(1)
    for _ in range(10):
        publisher.submit(book)
    publisher.start()
    until(lambda: book.left == 0)
    time.sleep(1.2)
    assert book.goes == 1
    publisher.stop()


def test_the_value_that_is_printed_has_five_digits_and_the_result_all() -> None:
    world, api = World(study(), 5), FakeApi()
    world.tick()
    while not world.state.finished:
        world.end_one()
        world.tick()
    write(TrialWriter(cast(Api, api), STUDY), world)
    for trial in world.state.trials.values():
        status = api.items[("hpotrials", "space", trial.name)]["status"]
        last = status["rungResults"][-1]["value"]
        assert status["value"] == float(f"{last:.5g}") != last
