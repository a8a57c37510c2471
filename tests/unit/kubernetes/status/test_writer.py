"""The status is written by one patch, only where it differs, and its events after it."""

from __future__ import annotations

from typing import Any, cast

import pytest

from frostline_operator.kubernetes.client.api import RECORDED_EVENTS, STUDIES, Api, ApiError
from frostline_operator.kubernetes.objects.jobs import StudyRef
from frostline_operator.kubernetes.status.events import Recorder
from frostline_operator.kubernetes.status.study import Situation
from frostline_operator.kubernetes.status.writer import StatusWriter
from tests.unit.engine.world import World, study
from tests.unit.kubernetes.fakes import FakeApi

STUDY = StudyRef("space", "s", "01234567-89ab", {})


@pytest.fixture
def api() -> FakeApi:
    fake = FakeApi()
    fake.put(STUDIES, {"metadata": {"name": "s", "namespace": "space", "uid": STUDY.uid}})
    return fake


def writer(api: FakeApi, status: dict[str, Any] | None = None) -> StatusWriter:
    made = StatusWriter(cast(Api, api), STUDY, Recorder(cast(Api, api), STUDY), status or {})
    made.spec = study()
    return made


def status(api: FakeApi) -> dict[str, Any]:
    return dict(api.items[("hpostudies", "space", "s")].get("status") or {})


def round_of(one: StatusWriter, world: World, now: float = 1e9) -> None:
    draft = one.draft(1, now)
    one.describe(draft, Situation(world.observe(), {}, "there is no device", None))
    one.publish(draft)


def patches(api: FakeApi) -> int:
    return sum(1 for verb, plural, _ in api.writes if (verb, plural) == ("patch", "hpostudies"))


def test_nothing_is_written_where_nothing_has_changed_and_amounts_alone_every_few_seconds(api: FakeApi) -> None:
    world, one = World(study(budget={"wallClock": "10h"}), 5), writer(api)
    world.tick()
    round_of(one, world)
    assert patches(api) == 1
    world.now += 1
    round_of(one, world, 1e9 + 1)
    assert patches(api) == 1
    world.now += 5
    round_of(one, world, 1e9 + 6)
    assert patches(api) == 2 and status(api)["budget"] != []
    world.end_one()
    world.tick()
    round_of(one, world, 1e9 + 6.5)
    assert patches(api) == 3


def test_a_new_operator_goes_on_from_the_status_that_is_there(api: FakeApi) -> None:
    world = World(study(), 5)
    world.play()
    first = writer(api)
    round_of(first, world)
    done = status(api)
    assert done["completionTime"] == "2001-09-09T01:46:40Z"
    round_of(writer(api, done), world, 2e9)
    assert status(api) == done and patches(api) == 1


def test_what_no_longer_holds_is_removed(api: FakeApi) -> None:
    old = {"completionTime": "2001-09-09T01:46:40Z", "best": {"trial": "s-0000"}}
    api.patch(STUDIES, "space", "s", {"status": old}, part="status")
    world = World(study(), 5)
    world.tick()
    round_of(writer(api, old), world)
    assert not {"best", "completionTime"} & set(status(api))


def test_a_study_that_has_just_been_deleted_is_no_error_and_has_no_events(api: FakeApi) -> None:
    one = writer(api)
    api.delete(STUDIES, "space", "s")
    draft = one.draft(1, 1e9)
    draft.accept()
    one.publish(draft)
    assert api.list(RECORDED_EVENTS, "space")[0] == []


def test_events_come_after_the_status_that_they_explain(api: FakeApi) -> None:
    one = writer(api)
    api.fail = ApiError(500, "InternalError", "not now")
    draft = one.draft(1, 1e9)
    draft.accept()
    with pytest.raises(ApiError):
        one.publish(draft)
    assert api.list(RECORDED_EVENTS, "space")[0] == []
    again = one.draft(1, 1e9)
    again.accept()
    one.publish(again)
    assert [e["reason"] for e in api.list(RECORDED_EVENTS, "space")[0]] == ["Accepted"]


def test_the_figures_for_metrics_are_those_of_the_status(api: FakeApi) -> None:
    world, one = World(study(), 5), writer(api)
    world.play()
    round_of(one, world)
    assert one.figures is not None and one.figures.phase == status(api)["phase"] == "Complete"
    assert one.figures.progress is not None and one.figures.progress.best == status(api)["best"]["value"]
