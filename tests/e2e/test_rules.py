"""The rules and the operator's /metrics as promtool sees them: each alert fires when it should, and only then."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from frostcluster import build
from frostcluster.errors import MissingRequirement
from frostcluster.prometheus import promtool
from ruamel.yaml import YAML
from tests.e2e.operating import ROOT
from tests.unit.engine.world import World, study
from tests.unit.kubernetes.status.test_metrics import CLASSES, shown, whole

RULES = ROOT / "charts" / "frostline" / "rules" / "frostline.yaml"
DOCUMENT = YAML(typ="safe").load(RULES.read_text(encoding="utf-8"))
ALERTS = {rule["alert"]: rule for group in DOCUMENT["groups"] for rule in group["rules"] if "alert" in rule}
RECORDED = {rule["record"] for group in DOCUMENT["groups"] for rule in group["rules"] if "record" in rule}

S = 'namespace="team", study="s"'
OPERATOR = 'job="frostline", instance="a"'


@pytest.fixture(scope="module", autouse=True)
def built() -> None:
    """Prometheus is built where it is required, else the tests skip."""
    if os.environ.get("FROSTLINE_REQUIRE_E2E") != "1" and not build.is_built("prometheus"):
        pytest.skip("promtool is not built: run `python -m frostcluster build`")
    try:
        build.program("prometheus", "promtool")
    except MissingRequirement as missing:
        pytest.fail(str(missing))


@dataclass
class Case:
    """One course of things, and whether the alert fires at a minute of it."""

    alert: str
    what: str
    series: dict[str, str]
    minute: int
    fires: bool
    labels: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.alert}-{self.what}"


def phase(name: str, values: str) -> dict[str, str]:
    return {f'frostline_study_phase{{{S}, phase="{name}"}}': values}


def running(values: str) -> dict[str, str]:
    return {f'frostline_study_runs{{{S}, state="Running"}}': values}


def condition(kind: str, reason: str, values: str) -> dict[str, str]:
    return {f'frostline_study_condition{{{S}, type="{kind}", reason="{reason}"}}': values}


def budget(used: str, unit: str = "tokens") -> dict[str, str]:
    labels = f'{{{S}, unit="{unit}"}}'
    return {
        f"frostline_study_budget_used{labels}": used,
        f"frostline_study_budget_reserved{labels}": "10x120",
        f"frostline_study_budget_limit{labels}": "100x120",
    }


def operator(studies: str, stamp: str) -> dict[str, str]:
    at = f"{{{OPERATOR}}}"
    return {f"frostline_operator_studies{at}": studies, f"frostline_operator_last_tick_timestamp_seconds{at}": stamp}


def requests(good: str, bad: str, code: str = "500") -> dict[str, str]:
    of = f'frostline_operator_api_requests_total{{{OPERATOR}, verb="patch", resource="jobs", code='
    return {f'{of}"200"}}': good, f'{of}"{code}"}}': bad}


def queries(good: str, bad: str) -> dict[str, str]:
    of = f"frostline_operator_prometheus_queries_total{{{OPERATOR}, outcome="
    return {f'{of}"Success"}}': good, f'{of}"Unreachable"}}': bad}


OF_STUDY = {"namespace": "team", "study": "s"}
OF_OPERATOR = {"job": "frostline", "instance": "a"}
FAILURES = f"frostline_operator_tick_failures_total{{{OPERATOR}}}"
DISAGREE = f"frostline_study_source_disagreements_total{{{S}}}"
OOM = f'frostline_study_out_of_memory_total{{{S}, memory_class="8Gi"}}'
RUNNING = phase("Running", "1x120") | running("2x120")
"""A study under way; samples are a minute apart."""
IDLE = phase("Running", "1x120") | running("0x120")
OVER = phase("Running", "0x120") | phase("Complete", "1x120") | running("0x120")
CASES = [
    Case("FrostlineOperatorDown", "gone", {f'frostline_operator_info{{{OPERATOR}}}': "1x10 stale"}, 20, True),
    Case("FrostlineOperatorDown", "a restart", {f'frostline_operator_info{{{OPERATOR}}}': "1x10 _x3 1x20"}, 17, False),
    Case("FrostlineOperatorNotTicking", "stopped at 10", operator("2x60", "0+60x10 600x50"), 20, True, OF_OPERATOR),
    Case("FrostlineOperatorNotTicking", "never ticked", operator("2x60", "0x60"), 20, True, OF_OPERATOR),
    Case("FrostlineOperatorNotTicking", "ticking", operator("2x60", "0+60x60"), 20, False),
    Case("FrostlineOperatorNotTicking", "nothing to tick", operator("0x60", "0x60"), 20, False),
    Case("FrostlineTicksFail", "some", {FAILURES: "0x10 3x50"}, 15, True, OF_OPERATOR),
    Case("FrostlineTicksFail", "long ago", {FAILURES: "0x10 3x50"}, 40, False),
    Case("FrostlineApiRequestsFail", "a third", requests("0+60x60", "0+30x60"), 30, True, OF_OPERATOR),
    Case("FrostlineApiRequestsFail", "few", requests("0+60x60", "0+1x60"), 30, False),
    Case("FrostlineApiRequestsFail", "conflicts", requests("0+60x60", "0+60x60", "409"), 30, False),
    Case("FrostlinePrometheusUnreachable", "no answers", queries("9x60", "0+2x60"), 30, True, OF_OPERATOR),
    Case("FrostlinePrometheusUnreachable", "some answers", queries("0+9x60", "0+2x60"), 30, False),
    Case("FrostlineStudyStuck", "nothing runs", IDLE, 20, True, OF_STUDY),
    Case("FrostlineStudyStuck", "between two runs", IDLE, 10, False),
    Case("FrostlineStudyStuck", "runs", RUNNING, 20, False),
    Case("FrostlineStudyStuck", "over", OVER, 20, False),
    Case("FrostlineStudyStuck", "profiling", phase("Profiling", "1x60"), 20, True, OF_STUDY),
    Case(
        "FrostlineNoNodeFits", "unschedulable", condition("RunsBlocked", "Unschedulable", "1x60"), 15, True,
        {**OF_STUDY, "reason": "Unschedulable"},
    ),
    Case("FrostlineNoNodeFits", "resolved", condition("RunsBlocked", "Unschedulable", "1x5 0x60"), 15, False),
    Case("FrostlineNoNodeFits", "a quota", condition("RunsBlocked", "QuotaExceeded", "1x60"), 15, False),
    Case(
        "FrostlineRunsBlocked", "a quota", condition("RunsBlocked", "QuotaExceeded", "1x60"), 15, True,
        {**OF_STUDY, "reason": "QuotaExceeded"},
    ),
    Case("FrostlineRunsBlocked", "in Kueue's queue", condition("RunsBlocked", "Queued", "1x60"), 15, False),
    Case(
        "FrostlineFidelityReduced", "running", {**RUNNING, **condition("FidelityReduced", "NoClassFits", "1x60")},
        5, True, OF_STUDY,
    ),
    Case("FrostlineFidelityReduced", "over", {**OVER, **condition("FidelityReduced", "NoClassFits", "1x60")}, 5, False),
    Case(
        "FrostlineFidelityUntrusted", "running",
        {**RUNNING, **condition("FidelityUntrusted", "LowRankCorrelation", "1x60")}, 5, True, OF_STUDY,
    ),
    Case(
        "FrostlineFidelityUntrusted", "resolved", {**RUNNING, **condition("FidelityUntrusted", "Resolved", "0x60")},
        5, False,
    ),
    Case(
        "FrostlineBudgetNearlySpent", "with what is reserved", {**RUNNING, **budget("85x120")}, 5, True,
        {**OF_STUDY, "unit": "tokens"},
    ),
    Case("FrostlineBudgetNearlySpent", "half", {**RUNNING, **budget("50x120")}, 5, False),
    Case("FrostlineBudgetNearlySpent", "all trials drawn", {**RUNNING, **budget("100x120", "trials")}, 5, False),
    Case("FrostlineBudgetNearlySpent", "over", {**OVER, **budget("90x120")}, 5, False),
    Case("FrostlineOutOfMemory", "many", {OOM: "0x5 1x5 2x5 4x60"}, 30, True, {**OF_STUDY, "memory_class": "8Gi"}),
    Case("FrostlineOutOfMemory", "one", {OOM: "0x5 1x100"}, 30, False),
    Case("FrostlineOutOfMemory", "hours ago", {OOM: "0x5 1x5 2x5 4x200"}, 150, False),
    Case(
        "FrostlineScoresUnavailable", "none come",
        {**RUNNING, **condition("MetricsAvailable", "Unreachable", "0x60")}, 20, True,
        {**OF_STUDY, "reason": "Unreachable"},
    ),
    Case(
        "FrostlineScoresUnavailable", "they come", {**RUNNING, **condition("MetricsAvailable", "Available", "1x60")},
        20, False,
    ),
    Case(
        "FrostlineScoresUnavailable", "not asked for", {**RUNNING, **condition("MetricsAvailable", "Scrape", "0x60")},
        20, False,
    ),
    Case("FrostlineSourceDisagreement", "one", {DISAGREE: "0x5 1x60"}, 10, True, OF_STUDY),
    Case("FrostlineSourceDisagreement", "none", {DISAGREE: "0x60"}, 10, False),
    Case("FrostlineStudyFailed", "just now", phase("Failed", "0x10 1x200"), 20, True, OF_STUDY),
    Case("FrostlineStudyFailed", "hours ago", phase("Failed", "0x10 1x200"), 150, False),
]  # fmt: skip


def test_the_rules_are_well_formed_and_their_names_are_as_prometheus_wants_them() -> None:
    done = promtool("check", "rules", "--lint=all", "--lint-fatal", RULES)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_alert_fires_when_it_should_and_only_then(case: Case, tmp_path: Path) -> None:
    at = f"{case.minute}m"
    expected: list[dict[str, Any]] = []
    if case.fires:
        rule = ALERTS[case.alert]
        labels = {"alertname": case.alert, "alertstate": "firing", **rule["labels"], **case.labels}
        words = ", ".join(f'{name}="{value}"' for name, value in sorted(labels.items()))
        expected = [{"labels": f"ALERTS{{{words}}}", "value": 1}]
    asked = f'ALERTS{{alertname="{case.alert}", alertstate="firing"}}'
    run_promtool(tmp_path, case.series, [{"expr": asked, "eval_time": at, "exp_samples": expected}])


def test_each_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    assert (
        {case.alert for case in CASES if case.fires} == set(ALERTS) == {case.alert for case in CASES if not case.fires}
    )


def test_each_alert_says_what_it_means_and_what_to_do_and_the_docs_say_more() -> None:
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    anchors = {re.sub(r"[^a-z0-9 -]", "", line.strip("# ").lower()).replace(" ", "-") for line in page.splitlines()}
    for name, rule in ALERTS.items():
        words = rule["annotations"]
        assert set(words) == {"summary", "description", "remedy", "runbook"}, name
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        path, _, anchor = words["runbook"].partition("#")
        assert path == "docs/operations.md" and anchor == name.lower() and anchor in anchors, name


RECORDINGS: list[tuple[str, dict[str, str], str, float]] = [
    (
        "namespace_study_unit:frostline_study_budget_used:ratio",
        budget("40x10"),
        f"{S}, unit=\"tokens\"",
        0.5,
    ),
    (
        "namespace_study:frostline_study_flops_saved:ratio",
        {f"frostline_study_flops_total{{{S}}}": "25x10", f"frostline_study_full_fidelity_flops{{{S}}}": "100x10"},
        S,
        0.75,
    ),
    (
        "namespace_study:frostline_study_gpu_seconds_saved:sum",
        {
            f'frostline_study_gpu_seconds_total{{{S}, memory_class="8Gi"}}': "10x10",
            f'frostline_study_gpu_seconds_total{{{S}, memory_class="24Gi"}}': "5x10",
            f"frostline_study_full_fidelity_gpu_seconds{{{S}}}": "100x10",
        },
        S,
        85,
    ),
    (
        "memory_class:frostline_memory_class_devices_busy:ratio",
        {
            'frostline_memory_class_devices_busy{memory_class="8Gi"}': "3x10",
            'frostline_memory_class_devices{memory_class="8Gi"}': "4x10",
        },
        'memory_class="8Gi"',
        0.75,
    ),
    (
        "job:frostline_operator_tick_seconds:p95_5m",
        {
            f'frostline_operator_tick_seconds_bucket{{{OPERATOR}, le="{le}"}}': f"0+{each}x10"
            for le, each in (("0.1", 0), ("0.2", 10), ("+Inf", 10))
        },
        'job="frostline"',
        0.195,
    ),
]  # fmt: skip


def test_recorded_figures_are_what_their_names_say(tmp_path: Path) -> None:
    assert {name for name, *_ in RECORDINGS} == RECORDED
    for name, given, labels, value in RECORDINGS:
        wanted = [{"labels": f"{name}{{{labels}}}", "value": value}]
        run_promtool(tmp_path, given, [{"expr": name, "eval_time": "8m", "exp_samples": wanted}])


def test_what_an_alert_says_is_filled_in(tmp_path: Path) -> None:
    [case] = [case for case in CASES if str(case) == "FrostlineBudgetNearlySpent-with what is reserved"]
    rule = ALERTS[case.alert]
    words = {**rule["annotations"], "summary": "95% of tokens of study team/s is spent or reserved"}
    alert = {"exp_labels": {**case.labels, **rule["labels"]}, "exp_annotations": words}
    run_promtool(tmp_path, case.series, [], [{"eval_time": "5m", "alertname": case.alert, "exp_alerts": [alert]}])


def test_names_and_help_of_the_operators_metrics_are_as_prometheus_wants_them() -> None:
    world = World(study(budget={"tokens": 100_000}), 5, classes=CLASSES)
    world.play()
    program = str(build.program("prometheus", "promtool"))
    done = subprocess.run(
        [program, "check", "metrics"], input=whole([shown(world)]), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def run_promtool(
    folder: Path, series: dict[str, str], expressions: list[dict[str, Any]], alerts: list[dict[str, Any]] | None = None
) -> None:
    """`promtool test rules` on one course of things."""
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": expressions,
        "alert_rule_test": alerts or [],
    }
    file = folder / "test.yaml"
    with file.open("w", encoding="utf-8") as out:
        YAML(typ="safe").dump({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": [test]}, out)
    done = promtool("test", "rules", file)
    assert done.returncode == 0, done.stdout + done.stderr
