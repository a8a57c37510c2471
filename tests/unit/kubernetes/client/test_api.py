"""Requests to an API server: what is asked, what its answers come to, and how they are counted."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from kubernetes import client as official

from frostline_operator.kubernetes.client.api import JOBS, PODS, Api, ApiError


@dataclass
class Server:
    """What it answers next, and what it was asked."""

    status: int = 200
    bodies: list[bytes] = field(default_factory=list)
    asked: list[tuple[str, str, dict[str, list[str]]]] = field(default_factory=list)


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def api(server: Server) -> Iterator[Api]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            server.asked.append((self.command, parts.path, parse_qs(parts.query)))
            body = server.bodies.pop(0)
            self.send_response(server.status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, args=(0.05,), daemon=True).start()
    yield Api(official.ApiClient(official.Configuration(host=f"http://127.0.0.1:{http.server_address[1]}")))
    http.shutdown()
    http.server_close()


def says(server: Server, *documents: Any, status: int = 200) -> None:
    server.status = status
    server.bodies = [json.dumps(document).encode() for document in documents]


def requests(api: Api) -> dict[tuple[str, ...], float]:
    [counter] = api.requests.collect()
    return {
        tuple(s.labels[name] for name in ("verb", "resource", "code")): s.value
        for s in counter.samples
        if s.name == "frostline_operator_api_requests_total"
    }


def test_lists_are_read_page_by_page(server: Server, api: Api) -> None:
    page = {"metadata": {"resourceVersion": "7"}, "items": [{"metadata": {"name": "a"}}]}
    says(server, {**page, "metadata": {"resourceVersion": "7", "continue": "more"}}, page)
    items, version = api.list(JOBS, "space", "a=b")
    assert len(items) == 2 and version == "7"
    assert [query.get("continue") for _, _, query in server.asked] == [None, ["more"]]
    assert requests(api) == {("list", "jobs", "200"): 2}


def test_what_is_not_there_is_none_and_other_refusals_are_errors(server: Server, api: Api) -> None:
    says(server, {"reason": "NotFound", "message": "jobs x not found"}, status=404)
    assert api.get(JOBS, "space", "x") is None
    says(server, {"reason": "Forbidden", "message": "no"}, status=403)
    with pytest.raises(ApiError, match="no") as refused:
        api.get(JOBS, "space", "x")
    assert (refused.value.status, refused.value.passing) == (403, False)
    assert requests(api) == {("get", "jobs", "404"): 1, ("get", "jobs", "403"): 1}


def test_a_watch_that_is_too_old_says_so(server: Server, api: Api) -> None:
    says(server, {"type": "ERROR", "object": {"code": 410, "reason": "Expired", "message": "too old"}})
    server.bodies[0] += b"\n"
    with pytest.raises(ApiError) as expired:
        list(api.watch(PODS, "space", "1"))
    assert expired.value.status == 410


def test_of_a_log_no_more_is_asked_for_than_is_read(server: Server, api: Api) -> None:
    server.bodies = [b"line\n"]
    assert api.logs("space", "pod", "trainer") == "line\n"
    [(_, path, query)] = server.asked
    assert path == "/api/v1/namespaces/space/pods/pod/log"
    assert query == {"container": ["trainer"], "tailLines": ["500"], "limitBytes": [str(4 * 2**20)]}


def test_nothing_is_written_without_the_guards_leave(server: Server, api: Api) -> None:
    def guard() -> None:
        raise ApiError(0, "NotHolder", "the lease is not held")

    api.guard = guard
    with pytest.raises(ApiError, match="not held"):
        api.create(JOBS, "space", {})
    with pytest.raises(ApiError, match="not held"):
        api.delete(JOBS, "space", "x")
    assert server.asked == []
    says(server, {"metadata": {"name": "x"}})
    assert api.get(JOBS, "space", "x") is not None


def test_a_server_that_is_away_is_a_passing_trouble() -> None:
    api = Api(official.ApiClient(official.Configuration(host="http://127.0.0.1:9")))
    with pytest.raises(ApiError) as away:
        api.get(JOBS, "space", "x")
    assert away.value.passing and requests(api) == {("get", "jobs", "none"): 1}
