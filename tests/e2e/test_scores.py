"""Studies whose scores come through a real Prometheus: the same winner as on one machine, whatever befalls it.

It is reached as in production: over TLS, with a password. Two of its jobs scrape each trainer, so that every series is
there twice.
"""

from __future__ import annotations

import json
import signal
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from frostcluster.certs import Authority
from frostcluster.cluster import Cluster
from frostcluster.prometheus import Prometheus, Protection
from frostcluster.workloads import Workloads
from tests.e2e.operating import Manifest, OperatorProcess, Studies, run_locally, small

from frostline_operator.scores.prometheus import PrometheusClient, QueryError
from frostline_operator.scores.settings import PrometheusSettings

TINY = small(search={"trials": 2}, fidelity={"samples": {"min": 500, "max": 1000}})
"""Two rungs."""
Results = dict[tuple[int, int], tuple[Any, ...]]


def scraping(kubeconfig: Path) -> Manifest:
    """All trainers each second, by two jobs; those of studies slow-... every eight seconds, of unseen-... never."""
    meta = "__meta_kubernetes_pod"
    study = f"{meta}_label_hpo_frostline_dev_study"

    def job(name: str, interval: str, *rules: Manifest) -> Manifest:
        keep = [
            {"source_labels": [f"{meta}_label_hpo_frostline_dev_component"], "regex": "trainer", "action": "keep"},
            {"source_labels": [f"{meta}_container_port_name"], "regex": "metrics", "action": "keep"},
            {"source_labels": [f"{meta}_phase"], "regex": "Running", "action": "keep"},
            {"source_labels": [f"{meta}_ip"], "regex": r"127\..*", "action": "drop"},
            {"source_labels": [f"{meta}_name"], "target_label": "pod"},
            {"source_labels": ["__meta_kubernetes_namespace"], "target_label": "namespace"},
        ]
        return {
            "job_name": name,
            "scrape_interval": interval,
            "scrape_timeout": "1s",
            "kubernetes_sd_configs": [{"role": "pod", "kubeconfig_file": str(kubeconfig)}],
            "relabel_configs": [*keep, *rules],
        }

    others = {"source_labels": [study], "regex": "slow-.*|unseen-.*", "action": "drop"}
    slow = {"source_labels": [study], "regex": "slow-.*", "action": "keep"}
    return {"scrape_configs": [job("one", "1s", others), job("two", "1s", others), job("slow", "8s", slow)]}


@pytest.fixture(scope="module")
def protection(tmp_path_factory: pytest.TempPathFactory) -> Protection:
    authority = Authority(tmp_path_factory.mktemp("pki"))
    certificate, key = authority.issue("prometheus", "/CN=prometheus", ["IP:127.0.0.1"])
    return Protection(certificate, key, authority.certificate)


@pytest.fixture(scope="module")
def prometheus(own_cluster: Cluster, protection: Protection) -> Iterator[Prometheus]:
    running = own_cluster.prometheus("scores", scraping(own_cluster.kubeconfig), protection)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def reached(prometheus: Prometheus, protection: Protection, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """The operator's settings for it."""
    password = tmp_path_factory.mktemp("secrets") / "password"
    password.write_text(Protection.PASSWORD + "\n")
    return {
        "url": prometheus.url,
        "caFile": str(protection.authority),
        "username": Protection.USER,
        "passwordFile": str(password),
        "intervalSeconds": 1.0,
        "timeoutSeconds": 5.0,
    }


@pytest.fixture(scope="module")
def asking(
    operator: OperatorProcess,
    operator_settings: Manifest,
    reached: Manifest,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[OperatorProcess]:
    """An operator that knows of the Prometheus, in place of the one that the other tests share."""
    if operator.running:
        operator.stop()
    folder = tmp_path_factory.mktemp("asking")
    settings = folder / "settings.yaml"
    settings.write_text(json.dumps({**operator_settings, "prometheus": reached}))
    process = OperatorProcess(operator.client, settings, folder)
    process.start()
    yield process
    if process.running:
        process.stop()


@pytest.fixture
def studies(asking: OperatorProcess, workloads: Workloads) -> Iterator[Studies]:
    if not asking.running:
        asking.start()
    yield Studies(workloads)
    workloads.kubectl("delete", "hpostudies", "--all", "--timeout=90s")


@pytest.fixture(scope="module")
def on_one_machine(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Manifest], Results]:
    """What a study comes to on one machine, each computed once."""
    known: dict[str, Results] = {}

    def results(spec: Manifest) -> Results:
        key = json.dumps({name: part for name, part in spec.items() if name != "metrics"}, sort_keys=True)
        if key not in known:
            known[key] = run_locally("here", spec, tmp_path_factory.mktemp("local"))
        return known[key]

    return results


def sources(studies: Studies, name: str) -> list[str]:
    """Where the values came from that were booked, each once."""
    results = [result for trial in studies.trials(name) for result in trial["status"].get("rungResults", [])]
    return sorted({result["source"] for result in results})


def test_a_whole_study_is_decided_by_prometheus(
    studies: Studies,
    asking: OperatorProcess,
    prometheus: Prometheus,
    on_one_machine: Callable[[Manifest], Results],
) -> None:
    # The operator knows of a Prometheus, so that is where scores come from unless a study says otherwise
    studies.apply("through", small())
    studies.apply("directly", small(metrics={"source": "Scrape"}))
    expected = on_one_machine(small())
    studies.complete("directly", 400)
    studies.complete("through", 400)

    assert studies.results("through") == studies.results("directly") == expected
    assert sources(studies, "through") == ["Prometheus"]
    assert sources(studies, "directly") == ["Record"]
    assert studies.condition("through", "MetricsAvailable")["status"] == "True"
    assert studies.condition("directly", "MetricsAvailable") == {}
    # Every series was there twice, each with its run, and nothing disagreed
    uid = studies.get("through")["metadata"]["uid"]
    doubled = prometheus.query(f'count by (job) (last_over_time(frostline_trial_objective{{study_uid="{uid}"}}[10m]))')
    assert {series["metric"]["job"] for series in doubled} == {"one", "two"}
    metrics = asking.get("/metrics")
    assert 'frostline_operator_prometheus_queries_total{outcome="Success"}' in metrics
    lines = [line for line in metrics.splitlines() if line.startswith("frostline_study_source_disagreements_total{")]
    assert lines and all(line.endswith(" 0.0") for line in lines)


def test_prometheus_is_killed_and_comes_back_empty(
    studies: Studies, prometheus: Prometheus, on_one_machine: Callable[[Manifest], Results]
) -> None:
    studies.apply("bereft", small())
    studies.until("bereft", "a pod", lambda: any(running(pod) for pod in studies.pods("bereft")), 300)
    prometheus.stop(signal.SIGKILL)
    prometheus.forget()
    try:
        said = studies.wait_condition("bereft", "MetricsAvailable", "False", 300)
        assert said["reason"] == "Unreachable" and prometheus.url in said["message"]
        assert "its own record counts after 2 s" in said["message"]
        studies.until("bereft", "a result by its record", lambda: sources(studies, "bereft") == ["Record"], 300)
    finally:
        prometheus.start()
    studies.complete("bereft", 400)
    assert studies.results("bereft") == on_one_machine(small())
    assert sources(studies, "bereft") == ["Prometheus", "Record"]
    assert studies.condition("bereft", "MetricsAvailable")["status"] == "True"
    # Nothing was run twice, and what was booked by its record once stays so
    assert {run["state"] for run in studies.runs("bereft").values()} == {"Succeeded"}


def test_studies_of_one_name_in_two_namespaces_and_one_after_another(
    studies: Studies, prometheus: Prometheus, on_one_machine: Callable[[Manifest], Results]
) -> None:
    other_seed = small(**{k: v for k, v in TINY.items() if k != "search"}, search={"trials": 2, "seed": 11})
    beside = Workloads(studies.client, f"test-{uuid.uuid4().hex[:8]}", studies.workloads.runtime)
    beside.create()
    twin = Studies(beside)
    try:
        studies.apply("namesake", TINY)
        twin.apply("namesake", other_seed)
        first, second = on_one_machine(TINY), on_one_machine(other_seed)
        assert first != second
        studies.complete("namesake", 400)
        twin.complete("namesake", 400)
        assert studies.results("namesake") == first and twin.results("namesake") == second

        studies.workloads.kubectl("delete", "hpostudy", "namesake", "--timeout=60s")
        studies.apply("namesake", other_seed)
        studies.complete("namesake", 400)
        assert studies.results("namesake") == second
        assert sources(studies, "namesake") == sources(twin, "namesake") == ["Prometheus"]
        # All three are in Prometheus, under one name
        found = prometheus.query(
            'count by (study_uid) (last_over_time(frostline_trial_objective{study="namesake"}[1h]))'
        )
        assert len(found) == 3
    finally:
        beside.kubectl("delete", "hpostudies", "--all", "--timeout=90s")
        beside.delete()


def test_pods_that_live_shorter_than_a_scrape_interval(
    studies: Studies, on_one_machine: Callable[[Manifest], Results]
) -> None:
    # Scraped every eight seconds, and the study says so: its pods of one second's training stay up to be seen
    studies.apply("slow-told", {**TINY, "metrics": {"interval": "8s"}})
    # Not scraped at all: the record counts, and somebody is told
    studies.apply("unseen-ever", TINY)
    expected = on_one_machine(TINY)
    studies.complete("slow-told", 400)
    studies.complete("unseen-ever", 400)
    assert studies.results("slow-told") == studies.results("unseen-ever") == expected
    assert sources(studies, "slow-told") == ["Prometheus"]
    assert sources(studies, "unseen-ever") == ["Record"]
    said = studies.condition("unseen-ever", "MetricsAvailable")
    assert (said["status"], said["reason"]) == ("False", "NoSamples")
    assert "scrapes this study's pods every 1 s" in said["message"]


SHOWN = 'last_over_time(frostline_trial_{}{{study_uid="$study_uid"}}[$window])'


def renamed(metric: str) -> str:
    """As a trainer of one's own might call it: the trainers' metric with labels of other names."""
    inner = f"max by (trial, rung, run) ({SHOWN.format(metric)})"
    for old, new in (("trial", "configuration"), ("rung", "step"), ("run", "attempt")):
        inner = f'label_replace({inner}, "{new}", "$1", "{old}", "(.*)")'
    return f"max by (configuration, step, attempt) ({inner}) # as exported"


def test_promql_of_ones_own_also_of_the_wrong_shape(
    studies: Studies, asking: OperatorProcess, on_one_machine: Callable[[Manifest], Results]
) -> None:
    def ask(**query: Any) -> None:
        studies.patch("own", {"metrics": {"query": query}})

    def says(reason: str, *words: str) -> None:
        def so() -> bool:
            return studies.condition("own", "MetricsAvailable").get("reason") == reason

        studies.until("own", reason, so, 300)
        message = studies.condition("own", "MetricsAvailable")["message"]
        assert all(word in message for word in words), message

    # Of the two jobs that scrape each trainer one may miss a scrape; a value settles for three of them
    every = {"interval": "3s"}
    wrong = {**every, "source": "Prometheus", "whenMissing": "Wait", "query": {"objective": "scalar(vector(1))"}}
    studies.apply("own", {**TINY, "metrics": wrong})
    # Another figure than the trainer's own: then the two disagree, and what Prometheus says counts
    twice = f"2 * max by (trial, rung) ({SHOWN.format('objective')})"
    one_at_a_time = {**TINY["search"], "parallelism": 1}  # of the two cards that fit, the other study needs one
    studies.apply("doubled", {**TINY, "search": one_at_a_time, "metrics": {**every, "query": {"objective": twice}}})
    says("InvalidQuery", "expected type instant vector", "metrics.query")
    ask(objective="frostline_trial_objective[5m]")
    says("InvalidQuery", "expected type instant vector")
    ask(objective="sum by (trial (")
    says("InvalidQuery", "parse error")
    ask(objective=f"sum({SHOWN.format('objective')})")
    says("MissingLabels", "the labels trial, rung")
    ask(objective=SHOWN.format("objective"))
    says("SeveralSeries", "own-000", "at rung 0", "max by (trial, rung)")
    # Nothing was decided meanwhile, though the first runs may have ended long ago
    assert all(not trial["status"].get("rungResults") for trial in studies.trials("own"))

    labels = {"trial": "configuration", "rung": "step", "run": "attempt"}
    ask(objective=renamed("objective"), tokens=renamed("tokens_total"), labels=labels)
    studies.complete("own", 400)
    assert studies.results("own") == on_one_machine(TINY)
    assert sources(studies, "own") == ["Prometheus"]

    studies.complete("doubled", 400)
    there = on_one_machine(TINY)
    assert studies.results("doubled") == {key: (2 * value, *rest) for key, (value, *rest) in there.items()}
    told = [event["message"] for event in studies.events("doubled") if event["reason"] == "SourceDisagreement"]
    assert told and all("the value from Prometheus counts" in message for message in told)
    line = (
        f'frostline_study_source_disagreements_total{{namespace="{studies.namespace}",study="doubled"}} {len(there)}.0'
    )
    assert line in asking.get("/metrics").splitlines()


@pytest.mark.long
def test_a_trainer_that_dies_after_its_last_value_was_seen_is_run_again(
    studies: Studies, asking: OperatorProcess, prometheus: Prometheus, on_one_machine: Callable[[Manifest], Results]
) -> None:
    studies.apply("risen", {**TINY, "metrics": {"interval": "60s"}})  # so it lingers, and the operator is away
    studies.until("risen", "a pod", lambda: bool(studies.pods("risen")), 300)
    asking.kill()
    uid = studies.get("risen")["metadata"]["uid"]
    last = f'frostline_trial_finished{{study_uid="{uid}",rung="0",job="one"}} == 1'
    studies.until("risen", "its last values in Prometheus", lambda: len(prometheus.query(last)) >= 1, 300)
    died = {series["metric"]["run"] for series in prometheus.query(last)}
    for pod in studies.pods("risen"):
        if pod["metadata"]["labels"]["hpo.frostline.dev/run"] in died:
            name = pod["metadata"]["name"]
            studies.workloads.kubectl("delete", "pod", name, "--grace-period=0", "--force", "--wait=false")
    asking.start()
    studies.patch("risen", {"metrics": {"interval": "1s"}})
    studies.complete("risen", 400)
    assert studies.results("risen") == on_one_machine(TINY)
    assert sources(studies, "risen") == ["Prometheus"]
    runs = studies.runs("risen")
    assert {runs[name]["state"] for name in died} == {"Lost"}
    for trial in studies.trials("risen"):
        assert not died & {result["run"] for result in trial["status"]["rungResults"]}


@pytest.mark.long
def test_values_that_never_come_are_waited_for_until_somebody_says_otherwise(
    studies: Studies, asking: OperatorProcess, on_one_machine: Callable[[Manifest], Results]
) -> None:
    studies.apply("unseen-patient", {**TINY, "metrics": {"whenMissing": "Wait"}})
    studies.wait_condition("unseen-patient", "MetricsAvailable", "False", 300)
    said = studies.condition("unseen-patient", "MetricsAvailable")
    assert said["reason"] == "NoSamples" and "whenMissing: Wait" in said["message"]
    assert all(pod["status"]["phase"] == "Succeeded" for pod in studies.pods("unseen-patient"))
    asking.kill()
    asking.start()
    held = {run["state"] for run in studies.runs("unseen-patient").values()}
    assert held == {"Awaiting"}
    assert "has yet to show" in studies.status("unseen-patient")["message"]
    studies.patch("unseen-patient", {"metrics": {"whenMissing": "Record"}})
    studies.complete("unseen-patient", 400)
    assert studies.results("unseen-patient") == on_one_machine(TINY)


def test_prometheus_over_tls_with_a_password(prometheus: Prometheus, reached: Manifest, tmp_path: Path) -> None:
    def ask(expression: str = "vector(1)", **changes: Any) -> Any:
        given = {name: value for name, value in {**reached, **changes}.items() if value is not None}
        client = PrometheusClient(PrometheusSettings.model_validate(given))
        try:
            return client.query(expression)
        finally:
            client.close()

    def refusal(expression: str = "vector(1)", **changes: Any) -> str:
        with pytest.raises(QueryError) as caught:
            ask(expression, **changes)
        return caught.value.reason

    assert ask().series[0].points[0][1] == 1.0
    assert ask(caFile=None, insecureSkipVerify=True).kind == "vector"
    (tmp_path / "wrong").write_text("open barley")
    assert refusal(passwordFile=str(tmp_path / "wrong")) == "Unauthorized"
    assert refusal(username=None, passwordFile=None) == "Unauthorized"
    assert refusal(caFile=None) == "CertificateRefused"
    assert refusal(url=prometheus.url.replace("https", "http"), caFile=None) in ("NotPrometheus", "InvalidQuery")
    assert refusal(url=f"{prometheus.url}/elsewhere") == "NotFound"
    assert refusal("sum by (") == "InvalidQuery"
    assert ask(timeoutSeconds=2.5).kind == "vector"


def running(pod: Manifest) -> bool:
    return bool(pod["status"].get("phase") == "Running")
