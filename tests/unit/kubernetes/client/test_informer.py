"""A local copy of objects: what it holds, whom it wakes, and that nothing makes it ask without pause."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any, cast

import pytest

from frostline_operator.kubernetes.client.api import JOBS, Api, ApiError, Manifest, Resource
from frostline_operator.kubernetes.client.informer import Informer
from tests.unit.kubernetes.fakes import FakeApi, eventually


class Troubled(FakeApi):
    """Its lists fail while `failure` is set, its watches expire as often as `expires` says."""

    failure: ApiError | None = None
    expires = 0

    def list(self, resource: Resource, namespace: str | None = None, labels: str = "", fields: str = "") -> Any:
        found = super().list(resource, namespace, labels, fields)
        if self.failure is not None:
            raise self.failure
        return found

    def watch(self, *arguments: Any, **named: Any) -> Iterator[Manifest]:
        if self.expires:
            self.expires -= 1
            raise ApiError(410, "Expired", "too old resource version")
        yield from super().watch(*arguments, **named)


@pytest.fixture
def api() -> Iterator[Troubled]:
    fake = Troubled()
    yield fake
    fake.close()


def job(name: str, team: str | None = "a", **spec: Any) -> Manifest:
    labels = {} if team is None else {"team": team}
    return {"metadata": {"name": name, "namespace": "n", "labels": labels}, "spec": spec}


def team(item: Manifest) -> str | None:
    found: str | None = (item["metadata"].get("labels") or {}).get("team")
    return found


@pytest.fixture
def informer(api: Troubled) -> Iterator[Informer]:
    made = Informer(cast(Api, api), JOBS, "n", index=team)
    made.start()
    yield made
    made.stop()


def in_team(informer: Informer, name: str) -> list[str]:
    return sorted(item["metadata"]["name"] for item in informer.of(name))


def test_it_holds_what_is_there_and_what_comes_and_remembers_the_last_state_of_what_goes(api: Troubled) -> None:
    api.put(JOBS, job("first"))
    informer = Informer(cast(Api, api), JOBS, "n", index=team)
    informer.start()
    eventually(informer.synced.is_set)
    assert in_team(informer, "a") == ["first"]
    api.put(JOBS, job("second", suspend=True))
    eventually(lambda: in_team(informer, "a") == ["first", "second"])
    api.put(JOBS, job("first", suspend=False))
    eventually(lambda: (informer.get(("n", "first")) or {})["spec"] == {"suspend": False})
    api.delete(JOBS, "n", "first")
    eventually(lambda: in_team(informer, "a") == ["second"])
    gone = informer.gone(("n", "first"))
    assert gone is not None and gone["spec"] == {"suspend": False}
    informer.stop()


def test_an_object_that_changes_its_group_leaves_the_old_one(api: Troubled, informer: Informer) -> None:
    api.put(JOBS, job("one"))
    eventually(lambda: in_team(informer, "a") == ["one"])
    api.put(JOBS, job("one", team="b"))
    eventually(lambda: in_team(informer, "b") == ["one"])
    assert in_team(informer, "a") == []
    api.put(JOBS, job("one", team=None))
    eventually(lambda: in_team(informer, "b") == [])
    assert informer.all() == []


def test_only_what_differs_by_its_digest_wakes(api: Troubled) -> None:
    woken: list[str] = []
    informer = Informer(
        cast(Api, api), JOBS, "n", index=team, changed=woken.append, digest=lambda item: item["spec"].get("suspend")
    )
    informer.start()
    eventually(informer.synced.is_set)
    api.put(JOBS, job("one", suspend=True))
    api.put(JOBS, job("one", suspend=True, ttlSecondsAfterFinished=5))
    eventually(lambda: "ttlSecondsAfterFinished" in (informer.get(("n", "one")) or {"spec": {}})["spec"])
    assert woken == ["a"]
    api.put(JOBS, job("one", suspend=False))
    eventually(lambda: woken == ["a", "a"])
    informer.stop()


def test_what_vanished_while_nobody_watched_is_told_at_the_next_list(api: Troubled) -> None:
    api.put(JOBS, job("one"))
    woken: list[str] = []
    api.expires = 1
    hold = threading.Event()
    ask = api.list

    def slow(*arguments: Any, **named: Any) -> Any:
        if api.lists.count("jobs") == 1:
            assert hold.wait(20)
        return ask(*arguments, **named)

    api.list = slow  # type: ignore[method-assign]
    informer = Informer(cast(Api, api), JOBS, "n", index=team, changed=woken.append)
    informer.start()
    eventually(lambda: in_team(informer, "a") == ["one"])
    api.delete(JOBS, "n", "one")
    hold.set()
    eventually(lambda: informer.all() == [])
    assert woken == ["a"] and informer.gone(("n", "one")) is not None
    informer.stop()


def test_a_version_that_expired_is_listed_again_at_once(api: Troubled) -> None:
    api.expires = 1
    began = time.monotonic()
    informer = Informer(cast(Api, api), JOBS, "n", index=team)
    informer.start()
    eventually(lambda: api.lists.count("jobs") == 2)
    assert time.monotonic() - began < 0.4
    informer.stop()


@pytest.mark.parametrize("trouble", ["list", "watch"])
def test_versions_that_expire_again_and_again_are_listed_ever_more_rarely(api: Troubled, trouble: str) -> None:
    if trouble == "list":
        api.failure = ApiError(410, "Expired", "the continue token is too old")
    else:
        api.expires = 10**9
    informer = Informer(cast(Api, api), JOBS, "n", index=team)
    informer.start()
    time.sleep(2.0)
    assert 2 <= api.lists.count("jobs") <= 4
    informer.stop()


def test_a_right_that_is_missing_is_said_and_asked_for_again(api: Troubled, informer: Informer) -> None:
    eventually(informer.synced.is_set)
    api.failure = ApiError(403, "Forbidden", "jobs is forbidden")
    denied = Informer(cast(Api, api), JOBS, "n", index=team)
    denied.start()
    eventually(lambda: denied.refused is not None)
    assert not denied.synced.is_set()
    api.failure = None
    eventually(denied.synced.is_set)
    assert denied.refused is None
    denied.stop()
