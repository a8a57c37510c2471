"""Clusters that do not tell of their GPUs: there are none, or the operator may not look."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from frostcluster.client import Client
from frostcluster.cluster import Cluster, running
from frostcluster.node import NodeSpec
from frostcluster.runtime import python_runtime_mounts
from frostcluster.workloads import Workloads
from tests.e2e.operating import ROOT, Manifest, OperatorProcess, Studies, settings_here, small

RULES: list[Manifest] = [
    {"apiGroups": ["hpo.frostline.dev"], "resources": ["*"], "verbs": ["*"]},
    {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["*"]},
    {"apiGroups": [""], "resources": ["pods", "pods/log", "configmaps", "events"], "verbs": ["*"]},
    {"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create"]},
]
"""All that an operator needs in a namespace, and nothing beyond it."""


@pytest.fixture
def confined(cluster: Client, crds: Client, workloads: Workloads, tmp_path: Path) -> Path:
    """Return the kubeconfig of a ServiceAccount whose rights end with its namespace."""
    place = workloads.namespace
    subject = {"kind": "ServiceAccount", "name": "confined", "namespace": place}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "confined"}
    of_rbac = "rbac.authorization.k8s.io/v1"
    workloads.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "confined"}},
        {"apiVersion": of_rbac, "kind": "Role", "metadata": {"name": "confined"}, "rules": RULES},
        {
            "apiVersion": of_rbac,
            "kind": "RoleBinding",
            "metadata": {"name": "confined"},
            "subjects": [subject],
            "roleRef": role,
        },
    )
    settings = json.loads(cluster.kubectl("config", "view", "--raw", "--minify", "--flatten", "--output=json"))
    token = workloads.kubectl("create", "token", "confined", "--duration=1h").strip()
    settings["users"] = [{"name": settings["users"][0]["name"], "user": {"token": token}}]
    path = tmp_path / "confined.kubeconfig"
    path.write_text(json.dumps(settings))
    return path


def test_an_operator_that_may_not_read_nodes_says_so_and_can_be_told(
    cluster: Client,
    confined: Path,
    workloads: Workloads,
    no_operator: None,
    operator_settings: Manifest,
    tmp_path: Path,
) -> None:
    settings = tmp_path / "settings.yaml"
    studies = Studies(workloads)
    arguments = ("--kubeconfig", str(confined), "--namespace", workloads.namespace)
    operator = OperatorProcess(cluster, settings, tmp_path, *arguments)
    settings.write_text(json.dumps(operator_settings))
    operator.start()
    try:
        studies.apply("blind", small(search={"trials": 2}))
        blocked = studies.wait_condition("blind", "RunsBlocked")
        assert blocked["reason"] == "NoDevices"
        assert "may not read nodes" in blocked["message"] and "ClusterRole" in blocked["message"]
        operator.stop()

        told = [{"usableMemory": "6Gi", "devices": 2, "nodeSelector": {"nvidia.com/gpu.memory": "8192"}}]
        settings.write_text(json.dumps({**operator_settings, "classes": told}))
        operator.start()

        studies.complete("blind")
        assert {run["memory_class"] for run in studies.runs("blind").values()} == {"6Gi"}
        assert {pod["spec"]["nodeName"] for pod in studies.pods("blind")} == {"gpu-small"}
        assert studies.condition("blind", "RunsBlocked")["status"] == "False"
    finally:
        workloads.kubectl("delete", "hpostudies", "--all", "--timeout=60s")
        operator.stop()


@pytest.fixture
def without_gpus(cluster: Client) -> Iterator[Cluster]:
    """Have a second cluster, of one node that has no GPU."""
    if not isinstance(cluster, Cluster):
        pytest.skip("it needs a cluster of its own")
    with running(f"cpu-{os.getpid()}", [NodeSpec("plain", gpus=0)]) as started:
        started.kubectl("apply", "--server-side", "--filename", str(ROOT / "crds"))
        started.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
        yield started


def test_trainers_run_on_cpus_where_there_are_no_gpus(without_gpus: Cluster, checkpoints: Path, tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text(json.dumps(settings_here(checkpoints)))
    workloads = Workloads(without_gpus, "cpus", python_runtime_mounts(Path(sys.prefix)))
    workloads.create()
    studies = Studies(workloads)
    operator = OperatorProcess(without_gpus, settings, tmp_path)
    operator.start()
    try:
        studies.apply("slow", small(search={"trials": 4, "maxTrialsPerRun": 1, "parallelism": 3}))
        assert "cpuSlots" in studies.wait_condition("slow", "RunsBlocked")["message"]
        operator.stop()
        operator = OperatorProcess(without_gpus, settings, tmp_path, "--cpu-slots", "2")
        operator.start()
        studies.complete("slow")
        assert {run["memory_class"] for run in studies.runs("slow").values()} == {"cpu"}
        assert most_at_once(studies, "slow") == 2, "as many as there are slots, though the study would take three"
    finally:
        operator.stop()


def most_at_once(studies: Studies, name: str) -> int:
    """Runs that held a device at the same time, as the operator decided it."""
    states: dict[str, str] = {}
    most = 0
    for record in studies.journal(name):
        states.update({run["name"]: run["state"] for run in record.get("runs", [])})
        most = max(most, sum(state in ("Pending", "Running", "Stopping") for state in states.values()))
    return most
