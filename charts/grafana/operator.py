"""*Operator*: whether the controller does its work, and what it asks of others."""

from __future__ import annotations

from charts.grafana.frame import Section, dashboard
from charts.grafana.panels import Builder, Query, lines, number, statements
from grafana_foundation_sdk.builders.dashboard import Dashboard

PROCESS = "and on (job, instance) frostline_operator_info"
"""Metrics that every process has: of the operator's only."""
SOME = '{namespace=~"$namespace", study=~"$study"}'
CALM = 'type!~"Accepted|Profiled|Progressing|Complete|MetricsAvailable"'
"""Conditions that nobody needs to look at, left out."""
SCORES = 'type="MetricsAvailable", reason!="Scrape"'
TRUTH = {"0": ("no", "#808080"), "1": ("yes", "orange")}


def operator() -> Dashboard:
    """The dashboard."""
    return dashboard(
        "operator",
        "Frostline / Operator",
        "The controller: its ticks, its errors, and its requests to the API server and to Prometheus.",
        [Section("How it stands", _now()), Section("Ticks", _ticks()), Section("Requests", _requests()),
         Section("What studies need from people", _needs())],
        several=True,
    )  # fmt: skip


def _quantile(q: float, of: str = "tick_seconds") -> str:
    return f"histogram_quantile({q}, sum by (le) (rate(frostline_operator_{of}_bucket[$__rate_interval])))"


def _said(conditions: str, value: int) -> str:
    return f"(frostline_study_condition{SOME[:-1]}, {conditions}}} == {value})"


def _now() -> list[Builder]:
    return [
        number(
            "Version",
            "Of the operator that Prometheus sees. Nothing here: it is down, or not scraped.",
            Query("frostline_operator_info", "{{version}}"),
            words=True,
            none="not seen",
        ),
        number(
            "Studies looked after",
            "Those that are over included, until they are deleted.",
            Query("sum(frostline_operator_studies)"),
        ),
        number(
            "Last tick",
            "Seconds ago. Studies under way are looked at every few seconds, finished ones twice a minute; after two "
            "minutes /healthz fails and Kubernetes starts the operator anew.",
            Query("time() - max(frostline_operator_last_tick_timestamp_seconds > 0)"),
            unit="s",
            decimals=0,
            colours=((None, "green"), (60, "orange"), (120, "red")),
            none="none yet",
        ),
        number(
            "Tick, 95th percentile",
            "How long a look at one study takes. Above a second: the API server is slow, or a study is very large.",
            Query(_quantile(0.95)),
            unit="s",
            colours=((None, "green"), (1, "orange"), (5, "red")),
        ),
        number(
            "Failed ticks in an hour",
            "Should be 0: each is a defect. The log has a traceback; please report it.",
            Query("sum(increase(frostline_operator_tick_failures_total[1h]))"),
            colours=((None, "green"), (1, "red")),
            decimals=0,
        ),
        number(
            "Memory",
            "Resident memory of the process. It grows with the number of trials of the studies looked after.",
            Query(f"max(process_resident_memory_bytes {PROCESS})"),
            unit="bytes",
        ),
    ]


def _ticks() -> list[Builder]:
    return [
        lines(
            "Duration of a tick",
            "Half of all looks at a study take less than p50, one in twenty takes more than p95. Most of "
            "it should be waiting for the API server; the rest is the operator's own work.",
            Query(_quantile(0.5), "p50"),
            Query(_quantile(0.95), "p95"),
            Query(_quantile(0.95, "tick_api_seconds"), "p95 waiting for the API server"),
            unit="s",
            low=0,
        ),
        lines(
            "Ticks",
            "Looks at studies per second, and those that failed.",
            Query("sum(rate(frostline_operator_tick_seconds_count[$__rate_interval]))", "ticks"),
            Query("sum(rate(frostline_operator_tick_failures_total[$__rate_interval]))", "failed"),
            unit="ops",
            low=0,
        ),
        lines(
            "Age of the last tick",
            "A slope is an operator that stands still; at 120 s it is started anew.",
            Query("time() - max by (instance) (frostline_operator_last_tick_timestamp_seconds > 0)", "{{instance}}"),
            unit="s",
            low=0,
            limit=120,
        ),
        lines(
            "Memory of the process",
            "A steady slope without new studies would be a leak.",
            Query(f"process_resident_memory_bytes {PROCESS}", "{{instance}}"),
            unit="bytes",
            low=0,
        ),
        lines(
            "CPU of the process",
            "Cores. Near 1 all the time: many studies, or ticks woken by a storm of pod events.",
            Query(f"rate(process_cpu_seconds_total[$__rate_interval]) {PROCESS}", "{{instance}}"),
            low=0,
        ),
        lines(
            "Open files",
            "Connections and files of the process. A steady slope would be a leak.",
            Query(f"process_open_fds {PROCESS}", "{{instance}}"),
            low=0,
            decimals=0,
        ),
    ]


def _requests() -> list[Builder]:
    asked = "frostline_operator_api_requests_total"
    refused = f'{asked}{{code!~"2..|404|409"}}'
    return [
        lines(
            "Requests to the API server",
            "Per second, by verb and resource. Reads come from local copies: mostly writes and watches are seen here.",
            Query(f"sum by (verb, resource) (rate({asked}[$__rate_interval]))", "{{verb}} {{resource}}"),
            unit="reqps",
            stacked=True,
        ),
        lines(
            "Requests that were not answered well",
            "In ten minutes, by code; 404 and 409 are part of the work. 403: the operator lacks a permission. 429, 5xx "
            "or none: the API server is overloaded or away.",
            Query(f"sum by (code, verb, resource) (increase({refused}[10m]))", "{{code}} {{verb}} {{resource}}"),
            low=0,
        ),
        lines(
            "Queries to Prometheus",
            "Per second, by outcome; nothing where studies read values from the trainers (metrics.source: Scrape). "
            "Other outcomes than success are in the study's conditions.",
            Query(
                "sum by (outcome) (rate(frostline_operator_prometheus_queries_total[$__rate_interval]))", "{{outcome}}"
            ),
            unit="reqps",
            low=0,
        ),
    ]


def _needs() -> list[Builder]:
    return [
        statements(
            "Conditions that hold",
            "Of the picked studies, those that somebody should look at. docs/operations.md says what to do about each.",
            Query(f"{_said(CALM, 1)} or {_said(SCORES, 0)}"),
            TRUTH,
        ),
        lines(
            "Source disagreements",
            "Values that Prometheus showed otherwise than the run's own record, in an hour. Should be 0: two trainers "
            "write under one name, or a metric is relabelled on its way.",
            Query(
                f"sum by (namespace, study) (increase(frostline_study_source_disagreements_total{SOME}[1h]))",
                "{{namespace}}/{{study}}",
            ),
            low=0,
            width=12,
        ),
    ]
