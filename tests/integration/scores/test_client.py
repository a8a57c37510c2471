"""Whatever answers in Prometheus's stead, the operator says what is wrong and what helps."""

from __future__ import annotations

import base64
import math
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from frostline_operator.scores import prometheus as module
from frostline_operator.scores.prometheus import PrometheusClient, QueryError
from frostline_operator.scores.settings import PrometheusSettings

from .server import Server, serving


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


def client(server: Server, **settings: Any) -> PrometheusClient:
    return PrometheusClient(PrometheusSettings(url=server.url, **settings))


def refused(server: Server, **settings: Any) -> QueryError:
    with pytest.raises(QueryError) as caught:
        client(server, **settings).query("up")
    assert server.url in str(caught.value) or "Prometheus" in str(caught.value) or "answer" in str(caught.value)
    return caught.value


def test_series_and_their_points_come_back_bit_for_bit(server: Server) -> None:
    values = [0.1, 1 / 3, 5e-324, 1.7976931348623157e308, -0.0]
    server.finds("matrix", {"metric": {"a": "b"}, "values": [[i + 0.123, repr(v)] for i, v in enumerate(values)]})
    [series] = client(server).query('up{a="b"}[1m]').series
    assert series.labels == {"a": "b"}
    assert [(at, value.hex()) for at, value in series.points] == [(i + 0.123, v.hex()) for i, v in enumerate(values)]
    assert server.queries == ['up{a="b"}[1m]']


def test_the_servers_own_clock_is_asked(server: Server) -> None:
    client(server, timeout_seconds=2.5).query("up")
    assert server.form == {"query": ["up"], "timeout": ["2.5"]}  # no time


def test_nan_and_the_infinities_are_read(server: Server) -> None:
    server.finds("vector", *({"metric": {}, "value": [1, text]} for text in ("NaN", "+Inf", "-Inf")))
    values = [series.points[0][1] for series in client(server).query("x").series]
    assert math.isnan(values[0]) and values[1:] == [math.inf, -math.inf]


def test_histograms_have_no_points(server: Server) -> None:
    server.finds("vector", {"metric": {}, "histogram": [1, {"count": "1", "sum": "2"}]})
    assert client(server).query("x").series[0].points == ()


def test_warnings_of_a_store_mean_that_something_may_be_missing(server: Server) -> None:
    server.finds("vector", warnings=("PromQL warning: bucket label missing",))
    assert not client(server).query("x").partial
    server.finds("vector", warnings=("receive series from store-1: context deadline exceeded",))
    assert client(server).query("x").partial


@pytest.mark.parametrize(
    ("status", "kind", "reason"),
    [
        (400, "bad_data", "InvalidQuery"),
        (422, "execution", "InvalidQuery"),
        (200, "bad_data", "InvalidQuery"),
        (503, "timeout", "Timeout"),
        (503, "unavailable", "Overloaded"),
        (429, "too_many_requests", "Overloaded"),
        (500, "internal", "ServerError"),
        (401, "unauthorized", "Unauthorized"),
    ],
)
def test_errors_in_prometheus_own_words(server: Server, status: int, kind: str, reason: str) -> None:
    server.says({"status": "error", "errorType": kind, "error": "parse error: unexpected <eof>"}, status)
    found = refused(server)
    assert found.reason == reason
    assert reason == "Unauthorized" or "unexpected <eof>" in str(found)


@pytest.mark.parametrize(
    ("status", "reason"),
    [(401, "Unauthorized"), (403, "Unauthorized"), (404, "NotFound"), (429, "Overloaded"), (502, "ServerError"),
     (503, "Overloaded"), (200, "NotPrometheus"), (405, "NotPrometheus")],
)  # fmt: skip
def test_errors_of_somebody_in_between(server: Server, status: int, reason: str) -> None:
    server.says_text("<html>Please log in</html>", status)
    found = refused(server)
    assert found.reason == reason
    assert reason != "NotPrometheus" or ("text/html" in str(found) and "Please log in" in str(found))


def test_a_redirect_is_not_followed_because_credentials_would_go_along(server: Server, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret")
    with serving() as other:
        server.says_text("", 302, Location=f"{other.url}/api/v1/query")
        found = refused(server, bearer_token_file=str(tmp_path / "token"))
        assert found.reason == "Redirected" and other.url in str(found)
        assert other.asked_with == {}


@pytest.mark.parametrize(
    "document",
    [
        [], "x", {"status": "success"}, {"status": "success", "data": {"resultType": "vector"}},
        {"status": "success", "data": {"resultType": "vector", "result": [{"metric": {}, "value": [1]}]}},
        {"status": "success", "data": {"resultType": "vector", "result": [{"metric": {}, "value": [1, "one"]}]}},
        {"status": "success", "data": {"resultType": "matrix", "result": [{"values": [[1, "1"]]}]}},
    ],
)  # fmt: skip
def test_json_of_another_form_is_no_answer(server: Server, document: Any) -> None:
    server.says(document)
    assert refused(server).reason == "NotPrometheus"


def test_a_document_that_is_cut_off_is_no_answer(server: Server) -> None:
    server.says_text('{"status":"success","data":{"resultType":"matrix","result":[{"met', kind="application/json")
    assert refused(server).reason == "NotPrometheus"


def test_an_answer_that_takes_too_long_is_given_up(server: Server) -> None:
    server.pause = 3
    assert refused(server, timeout_seconds=0.3).reason == "Timeout"


def test_an_answer_that_trickles_is_given_up_too(server: Server) -> None:
    server.trickle = 0.1
    began = time.monotonic()
    assert refused(server, timeout_seconds=0.5).reason == "Timeout"
    assert time.monotonic() - began < 3


def test_an_answer_that_is_too_large_is_given_up(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LARGEST_ANSWER_BYTES", 1000)
    server.says_text("x" * 5000)
    assert refused(server).reason == "TooLarge"


def test_nobody_at_the_address(server: Server) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        server.url = f"http://127.0.0.1:{free.getsockname()[1]}"
        assert refused(server).reason == "Unreachable"


def test_secrets_are_read_again_for_each_query(server: Server, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first\n")
    asking = client(server, bearer_token_file=str(token), headers={"X-Scope-OrgID": "tenant-1"})
    asking.query("up")
    assert server.asked_with["authorization"] == "Bearer first"
    assert server.asked_with["x-scope-orgid"] == "tenant-1"
    token.write_text("second")
    asking.query("up")
    assert server.asked_with["authorization"] == "Bearer second"
    token.unlink()
    with pytest.raises(QueryError, match="bearerTokenFile") as caught:
        asking.query("up")
    assert caught.value.reason == "Credentials"


def test_basic_authentication(server: Server, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("sesame\n")
    client(server, username="ali", password_file=str(tmp_path / "password")).query("up")
    assert server.asked_with["authorization"] == f"Basic {base64.b64encode(b'ali:sesame').decode()}"


def test_the_machines_proxy_and_netrc_are_not_used(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert client(server).query("up").kind == "matrix"
