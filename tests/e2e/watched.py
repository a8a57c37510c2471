"""A study that a real Prometheus watches: trainers found through the API server, the operator at its own port."""

from __future__ import annotations

import json
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from frostcluster.cluster import Cluster
from frostcluster.prometheus import Prometheus, pod_discovery
from tests.e2e.operating import ROOT, OperatorProcess, Studies

RULES = ROOT / "charts" / "frostline" / "rules" / "frostline.yaml"
INTERVAL = "1s"


def configuration(cluster: Cluster, namespace: str, port: int) -> dict[str, Any]:
    """Of a Prometheus that scrapes the trainers of a namespace and the operator, and evaluates the rules.

    `honor_labels`: the operator's series say of which namespace they are; that is not where the operator is.
    """
    made = pod_discovery(cluster.kubeconfig, namespace=namespace, scrape_interval=INTERVAL)
    made["global"]["evaluation_interval"] = INTERVAL
    made["rule_files"] = [str(RULES)]
    made["scrape_configs"].append(
        {
            "job_name": "frostline-operator",
            "honor_labels": True,
            "static_configs": [{"targets": [f"127.0.0.1:{port}"]}],
        }
    )
    return made


@contextmanager
def watched(
    cluster: Cluster, studies: Studies, settings: Mapping[str, object], folder: Path
) -> Iterator[tuple[Prometheus, OperatorProcess]]:
    """An operator that takes values from a Prometheus, which watches both it and the trainers in one namespace.

    There must be no other operator meanwhile.
    """
    prometheus = Prometheus(cluster, f"watch-{studies.namespace}", {})
    file = folder / "settings.yaml"
    file.write_text(json.dumps({**settings, "prometheus": {"url": prometheus.url}}))
    operator = OperatorProcess(studies.client, file, folder)
    operator.start()
    try:
        prometheus.configure(configuration(cluster, studies.namespace, operator.port))
        prometheus.start()
        try:
            yield prometheus, operator
        finally:
            prometheus.stop()
    finally:
        operator.stop()


class Api:
    """What of Prometheus's HTTP API is used beside instant queries."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    def over_time(self, expression: str, start: float, end: float, step: float) -> list[dict[str, Any]]:
        """Series over a time, with their points."""
        found: list[dict[str, Any]] = self._get("query_range", query=expression, start=start, end=end, step=step)[
            "result"
        ]
        return found

    def now(self, expression: str, at: float | None = None) -> list[dict[str, Any]]:
        """Series at one moment."""
        moment = {} if at is None else {"time": at}
        found: list[dict[str, Any]] = self._get("query", query=expression, **moment)["result"]
        return found

    def parsed(self, expression: str) -> dict[str, Any]:
        """How Prometheus understands an expression."""
        found: dict[str, Any] = self._get("parse_query", query=expression)
        return found

    def alerts(self) -> dict[str, str]:
        """Alerts that are pending or firing, by name."""
        return {alert["labels"]["alertname"]: alert["state"] for alert in self._get("alerts")["alerts"]}

    def _get(self, what: str, **parameters: Any) -> Any:
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"{self.url}/api/v1/{what}?{query}", timeout=30) as answer:
            return json.load(answer)["data"]


def wait_for_scrape(seconds: float = 2.5) -> None:
    """Let what the operator shows now be seen and the rules be evaluated on it."""
    time.sleep(seconds)
