"""What lives as long as the operator's process: a study's deletion waits for its pods."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry, Counter

from frostline_operator.kubernetes.client.api import JOBS, PODS, STUDIES, Api, ApiError
from frostline_operator.kubernetes.health import Health
from frostline_operator.kubernetes.objects import names
from frostline_operator.kubernetes.operator import Operator
from frostline_operator.kubernetes.settings import OperatorSettings
from tests.unit.engine.world import study
from tests.unit.kubernetes.fakes import FakeApi

BODY: dict[str, Any] = {
    "apiVersion": "hpo.frostline.dev/v1alpha1",
    "kind": "HPOStudy",
    "metadata": {"name": "s", "namespace": "space", "uid": "01234567-89ab", "generation": 1},
    "spec": study().model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude_none=True),
}


class Served(FakeApi):
    """With what /metrics counts of an API."""

    def __init__(self) -> None:
        super().__init__()
        self.requests = Counter("requests", "Requests", ["verb"], registry=CollectorRegistry())
        self.waited = 0.0


async def delete(api: FakeApi, meanwhile: Any = None) -> None:
    operator = Operator(OperatorSettings(checkpoints="s3://bucket/here"), cast(Api, api), Health())
    await operator.start()
    try:
        deletion = asyncio.create_task(operator.delete("01234567-89ab", BODY))
        if meanwhile is not None:
            await asyncio.sleep(0.5)
            assert not deletion.done()
            meanwhile()
        await asyncio.wait_for(deletion, 20)
    finally:
        operator.stop()
        api.close()


def running(api: FakeApi) -> None:
    """A Job with a pod that goes on."""
    job = {
        "metadata": {
            "name": "run",
            "namespace": "space",
            "labels": {**names.labels("s", "01234567-89ab", "trainer"), names.RUN: "run"},
            "ownerReferences": [names.owner("s", "01234567-89ab")],
            "finalizers": ["foregroundDeletion"],
            "deletionTimestamp": "2030-01-01T00:00:00Z",
        },
        "spec": {},
    }
    made = api.put(JOBS, job)
    owner = {"kind": "Job", "name": "run", "uid": made["metadata"]["uid"], "controller": True}
    labels = names.labels("s", "01234567-89ab", "trainer")
    metadata = {"name": "p", "namespace": "space", "ownerReferences": [owner], "labels": labels}
    api.put(PODS, {"metadata": metadata, "spec": {}, "status": {"phase": "Running"}})


def test_a_deletion_waits_for_pods_without_calling_it_an_error(caplog: pytest.LogCaptureFixture) -> None:
    api = Served()
    api.put(STUDIES, BODY)
    running(api)
    with caplog.at_level(logging.INFO):
        asyncio.run(delete(api, lambda: api.delete(PODS, "space", "p")))
    assert [r.message for r in caplog.records if r.levelno > logging.INFO] == []
    assert [r.message for r in caplog.records if "deleted" in r.message] == [
        "s is deleted: 1 pods write or remove checkpoints"
    ]


def test_a_study_that_somebody_forced_away_is_waited_for_no_more() -> None:
    api = Served()
    api.put(STUDIES, BODY)
    running(api)
    asyncio.run(delete(api, lambda: api.delete(STUDIES, "space", "s")))


def test_an_api_server_that_is_away_is_asked_again(caplog: pytest.LogCaptureFixture) -> None:
    api = Served()
    api.put(STUDIES, BODY)
    listed, answers = api.list, iter([None, ApiError(500, "InternalError", "not now")])

    def unwell(resource: Any, *rest: Any, **selectors: Any) -> Any:
        error = next(answers, None) if resource == STUDIES else None
        if error is not None:
            raise error
        return listed(resource, *rest, **selectors)

    api.list = unwell  # type: ignore[method-assign]
    asyncio.run(delete(api))
    assert "s cannot be deleted: not now; trying again in 1 s" in caplog.text
