"""Devices, and which study gets them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest

from frostline_operator.engine.state import StudyState, Trial
from frostline_operator.kubernetes.client.api import NODES, PODS, Api, ApiError, Resource
from frostline_operator.kubernetes.fleet import Fleet
from frostline_operator.kubernetes.settings import OperatorSettings
from tests.unit.engine.world import study
from tests.unit.kubernetes.fakes import FakeApi, eventually


@pytest.fixture
def api() -> Iterator[FakeApi]:
    fake = FakeApi()
    yield fake
    fake.close()


def node(name: str, gpus: int) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "labels": {"nvidia.com/gpu.memory": "8192", "nvidia.com/gpu.product": "A"}},
        "status": {
            "allocatable": {"nvidia.com/gpu": str(gpus)},
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def started(api: FakeApi) -> Fleet:
    fleet = Fleet(cast(Api, api), OperatorSettings(), lambda pod: False)
    fleet.start()
    eventually(lambda: fleet.synced)
    return fleet


def devices(fleet: Fleet, uid: str, **spec: Any) -> int:
    return sum(c.slots for c in fleet.offer(uid, study(**spec), StudyState()))


def test_a_priority_that_is_edited_counts_from_the_next_tick_on(api: FakeApi) -> None:
    api.put(NODES, node("n", 1))
    fleet = started(api)
    waiting = {"search": {"trials": 4, "parallelism": 1}}
    assert devices(fleet, "first", **waiting) == 1
    assert devices(fleet, "second", **waiting) == 0, "who came first is served first"
    assert devices(fleet, "second", **waiting, priority=5) == 0, "it was offered to the first already"
    assert devices(fleet, "first", **waiting) == 0, "the second, of higher priority now, is to have it"
    assert devices(fleet, "second", **waiting, priority=5) == 1
    fleet.stop()


def test_what_was_offered_to_one_and_what_others_hold_is_not_offered_to_anybody_else(api: FakeApi) -> None:
    api.put(NODES, node("n", 3))
    fleet = started(api)
    api.put(PODS, foreign("theirs", "n", 1))
    eventually(lambda: [use.foreign for use in fleet.use()] == [1])
    wants_two = {"search": {"trials": 4, "parallelism": 2}}
    assert devices(fleet, "first", **wants_two) == 2
    assert devices(fleet, "second", **wants_two) == 0
    fleet.settle("first", study(**wants_two), StudyState())
    assert devices(fleet, "second", **wants_two) == 2, "what was not taken of an offer is free again"
    fleet.stop()


def test_a_paused_study_leaves_its_devices_to_others(api: FakeApi) -> None:
    api.put(NODES, node("n", 1))
    fleet = started(api)
    wants_one = {"search": {"trials": 4, "parallelism": 1}}
    waiting = StudyState({0: Trial(0, "s-0000", 0, {"lr": 0.1}, 0)})
    for paused, left in ((False, 0), (True, 1)):
        fleet.offer("paused", study(**wants_one), waiting)
        fleet.settle("paused", study(**wants_one), waiting, paused)
        assert devices(fleet, "other", **wants_one) == left
        fleet.settle("other", study(**wants_one), StudyState())
    fleet.stop()


def test_an_offer_that_a_failed_round_never_answers_lapses(api: FakeApi) -> None:
    api.put(NODES, node("n", 1))
    now = 100.0
    fleet = Fleet(cast(Api, api), OperatorSettings(), lambda pod: False, lambda: now)
    fleet.start()
    eventually(lambda: fleet.synced)
    one = {"search": {"trials": 4, "parallelism": 1}}
    assert devices(fleet, "fails", **one) == 1
    now += 5.0
    assert devices(fleet, "waits", **one) == 0
    now += 15.0
    assert devices(fleet, "waits", **one) == 1
    fleet.stop()


def test_a_study_that_is_gone_holds_nothing(api: FakeApi) -> None:
    api.put(NODES, node("n", 1))
    fleet = started(api)
    assert devices(fleet, "first") == 1
    assert devices(fleet, "second") == 0
    fleet.forget("first")
    assert devices(fleet, "second") == 1
    fleet.stop()


def test_a_node_that_does_not_answer_offers_nothing_and_since_when_is_told(api: FakeApi) -> None:
    api.put(NODES, node("n", 1))
    fleet = started(api)
    assert fleet.ready_nodes() == {"n": True} and fleet.silent_since("n") is None
    silent = node("n", 1)
    silent["status"]["conditions"] = [
        {"type": "Ready", "status": "Unknown", "lastTransitionTime": "2027-01-15T08:00:00Z"}
    ]
    api.put(NODES, silent)
    eventually(lambda: fleet.ready_nodes() == {"n": False})
    assert fleet.silent_since("n") == 1_800_000_000.0
    assert devices(fleet, "first") == 0
    fleet.stop()


def test_where_nodes_may_not_be_read_it_says_what_helps(api: FakeApi) -> None:
    class Blind(FakeApi):
        def list(self, resource: Resource, *arguments: Any, **named: Any) -> Any:
            if resource == NODES:
                raise ApiError(403, "Forbidden", "nodes is forbidden")
            return super().list(resource, *arguments, **named)

    blind = Blind()
    fleet = started(blind)
    assert fleet.ready_nodes() is None and devices(fleet, "first") == 0
    assert "ClusterRole" in fleet.no_devices([])
    fleet.stop()
    blind.close()


def foreign(name: str, on: str, gpus: int) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "theirs"},
        "spec": {"nodeName": on, "containers": [{"resources": {"limits": {"nvidia.com/gpu": str(gpus)}}}]},
        "status": {"phase": "Running"},
    }
