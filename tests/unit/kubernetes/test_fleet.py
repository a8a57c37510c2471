"""Devices, and which study gets them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest

from frostline_operator.engine.state import StudyState
from frostline_operator.kubernetes.client.api import NODES, Api
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
    fleet = Fleet(cast(Api, api), OperatorSettings())
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
