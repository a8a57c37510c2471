"""The copies of Jobs and pods in watched namespaces."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest

from frostline_operator.kubernetes.caches import Caches
from frostline_operator.kubernetes.client.api import JOBS, Api
from frostline_operator.kubernetes.objects import names
from tests.unit.kubernetes.fakes import FakeApi, eventually

UID = "01234567-89ab"


@pytest.fixture
def api() -> Iterator[FakeApi]:
    fake = FakeApi()
    yield fake
    fake.close()


def started(api: FakeApi, *namespaces: str) -> Caches:
    caches = Caches(cast(Api, api), namespaces, lambda uid: None)
    caches.start()
    eventually(lambda: caches.synced)
    return caches


def job(name: str, namespace: str) -> dict[str, Any]:
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": names.labels("s", UID, "trainer"),
            "ownerReferences": [names.owner("s", UID)],
        },
        "spec": {},
    }


@pytest.mark.parametrize("watched", [("first", "second"), ()])
def test_a_job_that_was_created_is_there_once_in_its_own_namespace_until_it_is_deleted(
    api: FakeApi, watched: tuple[str, ...]
) -> None:
    caches = started(api, *watched)
    caches.put_job(api.create(JOBS, "second", job("run", "second")))
    caches.put_job(api.create(JOBS, "second", job("last", "second")))
    eventually(lambda: len(caches.jobs("second", UID)) == 2)
    assert caches.jobs("first", UID) == []
    assert caches.job("second", "run") is not None and caches.job("first", "run") is None
    api.delete(JOBS, "second", "run")
    eventually(lambda: [j["metadata"]["name"] for j in caches.jobs("second", UID)] == ["last"])
    caches.stop()


def test_what_a_create_has_answered_late_does_not_bring_back_what_was_deleted_since(api: FakeApi) -> None:
    caches = started(api, "first")
    answer = api.create(JOBS, "first", job("run", "first"))
    eventually(lambda: len(caches.jobs("first", UID)) == 1)
    api.delete(JOBS, "first", "run")
    eventually(lambda: caches.jobs("first", UID) == [])
    caches.put_job(answer)
    assert caches.jobs("first", UID) == []
    caches.stop()
