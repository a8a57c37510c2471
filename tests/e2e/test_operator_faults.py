"""Whatever is killed, stopped or deleted meanwhile: the same winner, nothing lost, nothing run twice to its end."""

import contextlib
import json
import os
import random
import re
import signal
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from frostcluster.cluster import Cluster
from tests.e2e.operating import Manifest, OperatorProcess, Studies, small

BUDGET = {"tokens": 16000, "gpuSeconds": 3600}
SPEC = small(search={"trials": 8, "maxTrialsPerRun": 2}, fidelity={"samples": {"min": 500, "max": 2000}}, budget=BUDGET)
"""What the faults befall; three rungs, eight trials, and twice the samples that they take undisturbed."""
LONG = 150_000
ALONE = small(search={"trials": 1, "parallelism": 1}, fidelity={"samples": {"min": LONG, "max": 2 * LONG}})
"""One trial, whose runs of so many samples last long enough to be interrupted."""

Results = dict[tuple[int, int], tuple[Any, ...]]


@pytest.fixture(scope="module")
def undisturbed() -> dict[str, Results]:
    return {}


@pytest.fixture
def expected(undisturbed: dict[str, Results], studies: Studies) -> Results:
    """Return what the study comes to when nothing happens to it."""
    return in_peace(undisturbed, studies, "calm", SPEC)


@pytest.fixture
def expected_alone(undisturbed: dict[str, Results], studies: Studies) -> Results:
    """Return the same of the study of one trial."""
    return in_peace(undisturbed, studies, "alone", ALONE)


def in_peace(known: dict[str, Results], studies: Studies, name: str, spec: Manifest) -> Results:
    """What a study comes to, run only once."""
    if name not in known:
        studies.apply(name, spec)
        studies.complete(name)
        known[name] = studies.results(name)
    return known[name]


def most_charged(studies: Studies, name: str) -> dict[str, float]:
    """What was reserved and spent together, at the moment of the study's life when it was most."""
    runs: dict[str, dict[str, Any]] = {}
    most = {"tokens": 0.0, "gpu_seconds": 0.0}
    for record in studies.journal(name):
        runs.update({run["name"]: run["charged"] for run in record.get("runs", [])})
        for unit in most:
            most[unit] = max(most[unit], sum(charge.get(unit, 0) for charge in runs.values()))
    return most


def check(studies: Studies, name: str, expected: Results) -> None:
    status = studies.complete(name, 400)
    assert studies.results(name) == expected
    assert [key for key, count in studies.times_finished(name).items() if count > 1] == []
    assert status["reason"] == "Completed"
    spent = {line["name"]: line for line in status["budget"]}
    assert spent["tokens"]["reserved"] == 0
    most = most_charged(studies, name)
    assert 0 < spent["tokens"]["spent"] <= most["tokens"] <= BUDGET["tokens"]
    assert 0 < spent["gpuSeconds"]["spent"] <= most["gpu_seconds"] <= BUDGET["gpuSeconds"]


def test_the_operator_is_killed_twenty_times(studies: Studies, operator: OperatorProcess, expected: Results) -> None:
    chance = random.Random(20)
    kills = 0
    names: list[str] = []
    # A fast machine ends a study after some ten kills: then another one befalls the same
    while kills < 20:
        names.append(f"killed-{len(names)}")
        studies.apply(names[-1], SPEC)
        while kills < 40 and studies.status(names[-1]).get("phase") != "Complete":
            # Some deaths come while it starts, some while it works, and some while it writes
            time.sleep(chance.uniform(0.5, 5.0) if kills % 4 else 6.0)
            operator.kill()
            kills += 1
            operator.start(wait=False)
    operator.kill()
    operator.start()
    for name in names:
        check(studies, name, expected)


@pytest.mark.long
def test_the_api_server_is_restarted(
    studies: Studies, own_cluster: Cluster, operator: OperatorProcess, expected: Results
) -> None:
    studies.apply("restarted", SPEC)
    studies.until("restarted", "runs", lambda: bool(studies.jobs("restarted")))
    own_cluster.stop_api_server()
    time.sleep(3)
    own_cluster.start_api_server()
    check(studies, "restarted", expected)
    assert operator.running


def test_jobs_and_pods_are_deleted_by_hand(studies: Studies, expected: Results) -> None:
    studies.apply("meddled", SPEC)
    studies.until("meddled", "a pod", lambda: bool(studies.running("meddled")))
    studies.workloads.kubectl("delete", "pod", studies.running("meddled")[0], "--wait=false")
    time.sleep(2)
    studies.until("meddled", "a Job", lambda: bool(unfinished(studies, "meddled")))
    studies.workloads.kubectl("delete", "job", unfinished(studies, "meddled")[0], "--wait=false")
    check(studies, "meddled", expected)


def evict(studies: Studies, pod: str) -> None:
    """As a drained or reclaimed node does: SIGTERM, the grace period, and the condition DisruptionTarget."""
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}}
    path = f"/api/v1/namespaces/{studies.namespace}/pods/{pod}/eviction"
    studies.client.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(eviction))


@pytest.mark.long
def test_a_pod_is_evicted(studies: Studies, expected: Results) -> None:
    studies.apply("evicted", SPEC)
    studies.until("evicted", "a pod", lambda: bool(studies.running("evicted")))
    evict(studies, studies.running("evicted")[0])
    check(studies, "evicted", expected)


def test_a_run_on_a_spot_node_that_is_reclaimed_goes_on_from_where_it_was(
    studies: Studies, expected_alone: Results
) -> None:
    """The grace period of these tests is 20 s; spot nodes give 30 or more."""
    studies.apply("spot", ALONE)
    studies.until("spot", "a trainer that trains", lambda: any(live_samples(studies, "spot")))
    evict(studies, studies.running("spot")[0])
    studies.complete("spot")

    assert studies.results("spot") == expected_alone
    runs = [run for run in studies.runs("spot").values() if run["rung"] == 0]
    [first, second] = runs
    assert (first["state"], second["state"]) == ("Stopped", "Succeeded")
    # Nothing is trained twice, and both together are charged what one run in peace is
    assert 0 < first["charged"]["tokens"] == second["start_tokens"]
    assert first["charged"]["tokens"] + second["charged"]["tokens"] == LONG


@pytest.mark.usefixtures("own_cluster")
def test_a_run_that_is_killed_goes_on_from_its_last_checkpoint_on_the_way(
    studies: Studies, expected_alone: Results
) -> None:
    """It leaves no record; how far it had come is known from its metrics."""
    studies.apply("gone", {**ALONE, "checkpointInterval": "1s", "metrics": {"interval": "1s"}})
    studies.until("gone", "a checkpoint", lambda: any(run.get("saved") for run in studies.runs("gone").values()))
    [trainer] = trainers("gone-b0-r0-000")
    os.kill(trainer, signal.SIGKILL)
    studies.complete("gone")

    assert studies.results("gone") == expected_alone
    [first, second] = [run for run in studies.runs("gone").values() if run["rung"] == 0]
    assert (first["state"], second["state"]) == ("Lost", "Succeeded")
    assert 0 < second["start_tokens"] < LONG
    assert first["charged"]["tokens"] >= second["start_tokens"]
    assert second["charged"]["tokens"] == LONG - second["start_tokens"]


def trainers(run: str) -> list[int]:
    """Process numbers of a run's trainers on this machine, which runs the nodes."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            trains = b"frostline_trainer" in (process / "cmdline").read_bytes()
            if trains and f'"run":"{run}"'.encode() in (process / "environ").read_bytes():
                found.append(int(process.name))
    return found


def live_samples(studies: Studies, name: str) -> list[float]:
    """Samples that each running trainer has seen, from its metrics."""
    pods = [pod for pod in studies.pods(name) if pod["status"]["phase"] == "Running"]
    seen = []
    for pod in pods:
        address = f"http://{pod['status']['podIP']}:9090/metrics"
        with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=2) as answer:
            found = re.findall(r"^frostline_trial_tokens_total{.*} (.+)$", answer.read().decode(), re.M)
            seen += [float(value) for value in found]
    return seen


@pytest.mark.long
def test_a_kubelet_stops_and_comes_back(studies: Studies, own_cluster: Cluster, expected: Results) -> None:
    node = own_cluster.nodes["gpu-small"]
    studies.apply("unwatched", SPEC)
    studies.until("unwatched", "a pod", lambda: bool(studies.running("unwatched")))
    node.stop_kubelet()
    time.sleep(5)
    node.start_kubelet()
    own_cluster.wait_nodes()
    check(studies, "unwatched", expected)


def unfinished(studies: Studies, name: str) -> list[str]:
    return [j["metadata"]["name"] for j in studies.jobs(name) if not j.get("status", {}).get("conditions")]


@pytest.mark.long
def test_a_node_is_deleted(studies: Studies, own_cluster: Cluster, expected: Results) -> None:
    studies.apply("bereft", SPEC)
    studies.until("bereft", "a pod", lambda: bool(studies.running("bereft")))
    own_cluster.delete_node("gpu-small")
    try:
        check(studies, "bereft", expected)
        nodes = {pod["spec"]["nodeName"] for pod in studies.pods("bereft")}
        assert "gpu-large" in nodes
    finally:
        own_cluster.nodes["gpu-small"].stop_kubelet()
        own_cluster.nodes["gpu-small"].start_kubelet()
        own_cluster.wait_nodes()


@pytest.mark.long
def test_a_node_falls_silent_and_its_runs_go_on_elsewhere(
    studies: Studies, own_cluster: Cluster, checkpoints: Path, expected: Results
) -> None:
    """Its trainers go on and write checkpoints all the same: nobody sees them, and nobody is disturbed by them."""
    node = own_cluster.nodes["gpu-small"]
    studies.apply("silent", SPEC)
    studies.until("silent", "a pod", lambda: bool(studies.running("silent")))
    node.stop_kubelet()
    try:
        check(studies, "silent", expected)
        lost = [run for run in studies.runs("silent").values() if run["state"] == "Lost"]
        assert lost and all("has not answered" in run["message"] for run in lost)
        assert "gpu-large" in {pod["spec"]["nodeName"] for pod in studies.pods("silent")}
        # Nor does what cannot be stopped keep a study from being deleted
        studies.workloads.kubectl("delete", "hpostudy", "silent", "--timeout=90s")
    finally:
        node.start_kubelet()
        own_cluster.wait_nodes()
