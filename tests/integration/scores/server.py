"""A real HTTP server that answers as a Prometheus in trouble does: what no Prometheus does on demand."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs


@dataclass
class Server:
    """What it answers, and what it was asked."""

    url: str = ""
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})
    pause: float = 0.0
    """Before it answers."""
    trickle: float = 0.0
    """After each byte of the body."""
    queries: list[str] = field(default_factory=list)
    form: dict[str, list[str]] = field(default_factory=dict)
    """Of the last request."""
    asked_with: dict[str, str] = field(default_factory=dict)
    """Headers of the last request, names in lower case."""

    def says(self, document: Any, status: int = 200, **headers: str) -> None:
        """Answer with JSON."""
        self.status, self.body = status, json.dumps(document).encode()
        self.headers = {"Content-Type": "application/json", **headers}

    def says_text(self, text: str, status: int = 200, kind: str = "text/html", **headers: str) -> None:
        """Answer with something else."""
        self.status, self.body, self.headers = status, text.encode(), {"Content-Type": kind, **headers}

    def finds(self, kind: str, *series: dict[str, Any], warnings: tuple[str, ...] = ()) -> None:
        """Answer as Prometheus does."""
        document: dict[str, Any] = {"status": "success", "data": {"resultType": kind, "result": list(series)}}
        if warnings:
            document["warnings"] = list(warnings)
        self.says(document)


@contextmanager
def serving() -> Iterator[Server]:
    """A server on a port of its own."""
    state = Server()
    state.finds("matrix")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            form = parse_qs(self.rfile.read(int(self.headers.get("Content-Length", 0))).decode())
            state.form = form
            state.queries += form.get("query", [])
            state.asked_with = {name.lower(): value for name, value in self.headers.items()}
            time.sleep(state.pause)
            try:
                self.send_response(state.status)
                for name, value in {**state.headers, "Content-Length": str(len(state.body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                for start in range(0, len(state.body), 1 if state.trickle else max(1, len(state.body))):
                    self.wfile.write(state.body[start : start + (1 if state.trickle else len(state.body))])
                    self.wfile.flush()
                    time.sleep(state.trickle)
            except OSError:
                return  # whoever asked has given up

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
