"""`/metrics` over HTTP: the live view of a run, and the way its objective leaves it.

Each trial's figures are one immutable snapshot that is swapped whole. A scrape therefore never sees the objective of
one evaluation beside the tokens of another: whoever accepts an objective only once the tokens reach the rung's is safe.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from frostline_trainer.contract import METRIC_LABELS, MetricName, RunSpec


@dataclass(frozen=True)
class Snapshot:
    """One trial's figures at one moment; None is not exposed."""

    tokens: int = 0
    """Seen at the evaluation that `objective` is of; at the start of the run before there is one."""
    objective: float | None = None
    loss: float | None = None
    """Training loss of late."""
    step: int = 0
    step_seconds: float | None = None
    memory_peak: int = 0
    checkpoint_tokens: int | None = None
    """Of the checkpoint on the way that this run wrote last, from which another one can go on."""
    finished: bool = False


_GAUGES = (
    (MetricName.OBJECTIVE, "objective", "The study's metric at the last evaluation"),
    (MetricName.LOSS, "loss", "Training loss of late"),
    (MetricName.STEP, "step", "Optimizer steps done"),
    (MetricName.STEP_SECONDS, "step_seconds", "Wall-clock seconds per step of the whole run, of late"),
    (MetricName.MEMORY_PEAK, "memory_peak", "Peak bytes allocated on the device by the run"),
    (MetricName.CHECKPOINT, "checkpoint_tokens", "Tokens or samples of the run's last checkpoint on the way"),
    (MetricName.FINISHED, "finished", "1 once the trial has its last value in this run"),
)


class RunMetrics(Collector):
    """The figures of all trials of a run."""

    def __init__(self, spec: RunSpec, layers: int):
        self._labels = {t.name: [spec.study, spec.study_uid, t.name, str(spec.rung), spec.run] for t in spec.trials}
        self._layers = layers
        self._snapshots = {t.name: Snapshot(tokens=t.parent.tokens if t.parent else 0) for t in spec.trials}
        self._lock = threading.Lock()

    def update(self, trial: str, **changes: Any) -> None:
        """Swap a trial's snapshot for one with these fields changed, in one step."""
        with self._lock:
            self._snapshots = {**self._snapshots, trial: replace(self._snapshots[trial], **changes)}

    def collect(self) -> Iterator[Metric]:
        """All series, from one consistent view."""
        snapshots = self._snapshots
        for name, field, text in _GAUGES:
            gauge = GaugeMetricFamily(name, text, labels=METRIC_LABELS)
            for trial, snapshot in snapshots.items():
                value = getattr(snapshot, field)
                if value is not None:
                    gauge.add_metric(self._labels[trial], float(value))
            yield gauge
        layers = GaugeMetricFamily(
            MetricName.LAYERS, "Layers trained in this run, from the output", labels=METRIC_LABELS
        )
        tokens = CounterMetricFamily(
            MetricName.TOKENS,
            "Tokens or samples seen at the last evaluation, earlier rungs included",
            labels=METRIC_LABELS,
        )
        for trial, snapshot in snapshots.items():
            layers.add_metric(self._labels[trial], float(self._layers))
            tokens.add_metric(self._labels[trial], float(snapshot.tokens))
        yield layers
        yield tokens


class MetricsServer:
    """Serves /metrics and /healthz, and takes POST /release, in a thread of its own.

    Args:
        metrics: what to serve.
        port: 0 lets the system choose.

    Raises:
        OSError: the port is taken.
    """

    def __init__(self, metrics: RunMetrics, port: int):
        registry = CollectorRegistry()
        registry.register(metrics)
        self.released = threading.Event()
        """Set by POST /release: the last values have been read, no need to linger."""
        released = self.released

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path.split("?")[0] == "/metrics":
                    self._answer(200, generate_latest(registry), CONTENT_TYPE_LATEST)
                elif self.path == "/healthz":
                    self._answer(200, b"ok\n")
                else:
                    self._answer(404, b"try /metrics, /healthz, or POST /release\n")

            def do_POST(self) -> None:
                if self.path != "/release":
                    self._answer(404, b"only /release takes POST\n")
                    return
                self._answer(200, b"released\n")
                released.set()

            def _answer(self, status: int, body: bytes, kind: str = "text/plain; charset=utf-8") -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                """Scrapes are not worth a line each."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

        self._server = Server(("", port), Handler)
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, args=(0.1,), name="metrics", daemon=True).start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
