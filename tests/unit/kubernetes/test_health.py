"""Whether the operator is alive: it has begun, and studies that exist are ticked."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import ThreadingHTTPServer

import pytest

from frostline_operator.kubernetes.health import Health, serve


@pytest.fixture
def health() -> Health:
    return Health()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def server(health: Health) -> Iterator[ThreadingHTTPServer]:
    started = serve(health, 0)
    yield started
    started.shutdown()
    started.server_close()


def answer(server: ThreadingHTTPServer, method: str = "GET") -> tuple[int, str]:
    request = urllib.request.Request(f"http://127.0.0.1:{server.server_address[1]}/healthz", method=method)
    try:
        with urllib.request.urlopen(request, timeout=5) as found:
            return found.status, found.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_a_stand_by_is_healthy_and_an_operator_that_has_not_synced_is_not(
    health: Health, server: ThreadingHTTPServer
) -> None:
    assert answer(server) == (200, "no tick yet\n")
    health.synced = False
    status, text = answer(server)
    assert status == 503 and text.startswith("not synced yet")
    health.synced = True
    assert answer(server)[0] == 200


def test_head_is_answered_like_get(server: ThreadingHTTPServer) -> None:
    assert answer(server, "HEAD") == (200, "")


def test_studies_that_nothing_ticks_are_noticed_also_where_nothing_ever_did(health: Health, clock: list[float]) -> None:
    health.synced = True
    clock[0] += 1000
    assert health.alive(), "there are no studies"
    health.present("a", True)
    clock[0] += 119
    assert health.alive()
    clock[0] += 2
    assert not health.alive()
    health.ticked(0.1, 0.0)
    assert health.alive()
    clock[0] += 121
    assert not health.alive()
    health.present("a", False)
    assert health.alive(), "it is gone"


def test_a_deletion_that_waits_for_pods_is_no_standstill(health: Health, clock: list[float]) -> None:
    health.synced = True
    health.present("a", True)
    clock[0] += 121
    health.beat()
    assert health.alive()
