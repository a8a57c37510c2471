"""Whether the operator is alive, and how it does: /healthz on the age of its last tick, /metrics beside it."""

from __future__ import annotations

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from frostline_operator import __version__

_STALE_SECONDS = 120.0
"""A study that is over still ticks twice a minute. By a monotonic clock: the time of day may jump."""
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Health:
    """Counts ticks and knows when the last one was."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        """What /metrics shows; others register what they know."""
        self.driven: set[str] = set()
        """Studies that are being ticked."""
        self.synced: bool | None = None
        """Whether the operator has read enough to decide anything; None while it does not try, as a stand-by."""
        self._present: set[str] = set()
        """Studies in the API server, whether they are ticked or not."""
        self._present_since = 0.0
        ProcessCollector(registry=self.registry)
        info = Gauge("frostline_operator_info", "Of which version it is: always 1", ["version"], registry=self.registry)
        info.labels(__version__).set(1)
        studies = Gauge("frostline_operator_studies", "Studies that are looked after", registry=self.registry)
        studies.set_function(lambda: float(len(self.driven)))
        self._seconds = Histogram(
            "frostline_operator_tick_seconds", "Duration of one study's tick", buckets=_BUCKETS, registry=self.registry
        )
        self._waited = Histogram(
            "frostline_operator_tick_api_seconds",
            "Part of one study's tick that was spent waiting for the API server",
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._failures = Counter(
            "frostline_operator_tick_failures_total", "Ticks that ended in an error", registry=self.registry
        )
        self._stamp = Gauge(
            "frostline_operator_last_tick_timestamp_seconds",
            "Time of day at the end of the last tick, 0 before the first",
            registry=self.registry,
        )
        self._last: float | None = None

    def ticked(self, seconds: float, waited: float) -> None:
        """A tick has ended well.

        Args:
            seconds: that it took.
            waited: of these, for the API server.
        """
        self._seconds.observe(seconds)
        self._waited.observe(waited)
        self._note()

    def failed(self) -> None:
        """A tick has ended in an error."""
        self._failures.inc()
        self._note()

    def present(self, uid: str, there: bool) -> None:
        """A study is in the API server, or is no more."""
        if there and not self._present:
            self._present_since = time.monotonic()
        (self._present.add if there else self._present.discard)(uid)

    def beat(self) -> None:
        """Something else than a tick has been done for a study: it is being deleted."""
        self._last = time.monotonic()

    def _note(self) -> None:
        self._last = time.monotonic()
        self._stamp.set_to_current_time()

    def age(self) -> float | None:
        """Seconds since the last tick, None where there never was one (no studies)."""
        return None if self._last is None else time.monotonic() - self._last

    def alive(self) -> bool:
        """Whether the operator has begun, and ticks go on as far as there is anything to tick."""
        if self.synced is False:
            return False
        if not self.driven and not self._present:
            return True
        return time.monotonic() - max(self._last or 0.0, self._present_since) < _STALE_SECONDS

    def state(self) -> str:
        """In words."""
        if self.synced is False:
            return "not synced yet: the cluster's studies, Jobs, pods and nodes have not been read"
        age = self.age()
        return "no tick yet" if age is None else f"last tick {age:.1f} s ago"


def serve(health: Health, port: int) -> ThreadingHTTPServer:
    """Answer /healthz and /metrics in a thread; port 0 lets the system choose.

    Raises:
        OSError: the port is taken.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            if self.path == "/healthz":
                self._answer(200 if health.alive() else 503, f"{health.state()}\n".encode(), "text/plain")
            elif self.path.split("?")[0] == "/metrics":
                self._answer(200, generate_latest(health.registry), CONTENT_TYPE_LATEST)
            else:
                self._answer(404, b"try /healthz or /metrics\n", "text/plain")

        def _answer(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Probes are not worth a line each."""

    server = ThreadingHTTPServer(("", port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()
    return server
