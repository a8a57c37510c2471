"""Every panel of every dashboard and every rule, asked of a real Prometheus that has watched a study."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from charts.grafana.reading import Asked, asked, read, substituted
from frostcluster.cluster import Cluster
from frostcluster.processes import eventually
from frostcluster.prometheus import Prometheus
from ruamel.yaml import YAML
from tests.e2e.operating import OperatorProcess, Studies, small
from tests.e2e.test_operator_placement import WIDE, Sizes, usable
from tests.e2e.watched import RULES, Api, wait_for_scrape, watched

__all__ = ["usable"]

DASHBOARDS = ("study", "fleet", "operator")
SPEC = {
    **small(**WIDE, search={"trials": 6}, budget={"tokens": 100_000, "gpuSeconds": 3600}),
    "fidelity": {"rungs": [{"layers": 1, "tokens": 500}, {"layers": "All", "tokens": 1000}]},
}
"""Two rungs of two runs each, the higher one on the larger class; three trials reach both."""

EMPTY_IN_CALM = {
    "Frostline / Operator: Requests that were not answered well A": "nothing was refused",
    "Frostline / Operator: Conditions that hold A": "no condition asks for anybody",
}
"""Rightly empty while nothing is wrong; `test_...blocked` makes them show something."""
NEVER_SAID_IN_CALM = {"RunsBlocked", "FidelityReduced", "FidelityUntrusted", "MetricsAvailable"}
"""Conditions that have no series before there is something to say; the alerts' other selectors must all find data."""


class Watched:
    """One study from its beginning to its end, and what a Prometheus has of it."""

    def __init__(self, prometheus: Prometheus, operator: OperatorProcess, studies: Studies) -> None:
        self.api, self.operator, self.studies = Api(prometheus.url), operator, studies
        self.start = time.time()

    def series(self, expression: str, study: str = "calm") -> list[dict[str, Any]]:
        """What an expression had at any moment since the beginning."""
        values = {"namespace": self.studies.namespace, "study": study, "__rate_interval": "5s"}
        return self.api.over_time(substituted(expression, values), self.start, time.time(), 1.0)


@pytest.fixture
def seen(
    own_cluster: Cluster,
    operator: OperatorProcess,
    studies: Studies,
    operator_settings: dict[str, object],
    tmp_path: Path,
) -> Iterator[Watched]:
    """A Prometheus that watches an operator of its own."""
    operator.stop()
    try:
        with watched(own_cluster, studies, operator_settings, tmp_path) as (prometheus, own):
            yield Watched(prometheus, own, studies)
            studies.workloads.kubectl("delete", "hpostudies", "--all", "--timeout=90s")
    finally:
        operator.start()


def questions() -> list[Asked]:
    return [query for name in DASHBOARDS for query in asked(read(name))]


def without_data(seen: Watched, among: list[Asked], study: str = "calm") -> set[str]:
    return {str(query) for query in among if not seen.series(query.expression, study)}


def selectors(node: Any) -> Iterator[dict[str, Any]]:
    """The selectors of series in an expression, as Prometheus parses it."""
    if isinstance(node, dict):
        if node.get("type") == "vectorSelector":
            yield node
        for value in node.values():
            yield from selectors(value)
    elif isinstance(node, list):
        for value in node:
            yield from selectors(value)


def as_text(selector: dict[str, Any]) -> str:
    matchers = ", ".join(f'{m["name"]}{m["type"]}"{m["value"]}"' for m in selector["matchers"])
    return f"{{{matchers}}}"


def test_each_panel_and_rule_has_data_and_what_is_empty_in_calm_shows_a_fault(seen: Watched, usable: Sizes) -> None:
    studies = seen.studies
    usable("2Mi", "16Mi")
    studies.apply("calm", SPEC)
    status = studies.complete("calm")
    wait_for_scrape()

    # Panels: every query of the three dashboards. (Definitions that were made just now may answer 429 at first.)
    assert without_data(seen, questions()) <= set(EMPTY_IN_CALM)
    # What they show is what the study says
    [best] = seen.api.now(f'frostline_study_best_objective{{namespace="{studies.namespace}"}}')
    assert float(best["value"][1]) == status["best"]["value"]
    assert best["metric"]["study"] == "calm", "the operator's labels are honoured"
    promoted = seen.api.now("sum by (rung) (frostline_study_promotions_total)")
    shown = {int(s["metric"]["rung"]): int(s["value"][1]) for s in promoted}
    assert shown == {row["rung"]: row["promoted"] for row in status["rungs"][:-1]}
    curves = {(s["metric"]["rung"], s["metric"]["trial"]) for s in seen.series("frostline_trial_objective")}
    assert len(curves) >= len(studies.results("calm")) - 1, "each trial's curve at each rung"
    measured = {t["status"]["rungResults"][0]["peakBytes"] for t in studies.trials("calm")}
    [small_class] = seen.api.now('frostline_study_memory_measured_bytes{memory_class="2Mi"}')
    assert float(small_class["value"][1]) == max(measured)

    # Rules: what is recorded has data, and what alerts look at exists
    document = YAML(typ="safe").load(RULES.read_text(encoding="utf-8"))
    rules = [rule for group in document["groups"] for rule in group["rules"]]

    def unrecorded() -> list[str]:
        recorded = [rule for rule in rules if "record" in rule]
        return [r["record"] for r in recorded if not (seen.series(r["record"]) and seen.series(r["expr"]))]

    assert eventually(lambda: not unrecorded(), 90), f"{unrecorded()}, though rules are evaluated each 30 s"
    for rule in rules:
        for selector in selectors(seen.api.parsed(rule["expr"])):
            about = {m["name"]: m["value"] for m in selector["matchers"]}
            if about.get("type") not in NEVER_SAID_IN_CALM and "outcome" not in about and "code" not in about:
                assert seen.series(as_text(selector)), (rule, as_text(selector))

    # A fault: a quota refuses every Job
    blocked(seen)
    calm = [query for query in questions() if str(query) in EMPTY_IN_CALM]
    assert eventually(lambda: not without_data(seen, calm, "blocked"), 60), "an increase takes two scrapes"
    said = f'frostline_study_condition{{namespace="{studies.namespace}", type="RunsBlocked", reason="QuotaExceeded"}}'
    assert [s["value"][1] for s in seen.api.now(said)] == ["1"]
    assert seen.api.alerts()["FrostlineRunsBlocked"] == "pending"

    # A study that is deleted takes its series with it
    studies.workloads.kubectl("delete", "hpostudy", "calm", "--wait", "--timeout=60s")
    assert 'study="calm"' not in seen.operator.get("/metrics")
    assert 'study="blocked"' in seen.operator.get("/metrics")


def blocked(seen: Watched) -> None:
    """A study whose Jobs a quota refuses."""
    studies = seen.studies
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "tight"},
        "spec": {"hard": {"count/jobs.batch": "0"}},
    }
    studies.apply("blocked", {**SPEC, "suspend": True})
    studies.wait_condition("blocked", "Profiled")
    studies.workloads.apply(quota)
    studies.patch("blocked", {"suspend": False})
    studies.wait_condition("blocked", "RunsBlocked")
    wait_for_scrape()
