"""What runs beside a cluster in tests: Prometheus, kwok and helm, each the real program."""

import subprocess
from pathlib import Path

from frostcluster import build
from frostcluster.client import Client
from frostcluster.cluster import Cluster
from frostcluster.node import GPU, NodeSpec
from frostcluster.prometheus import pod_discovery, promtool
from frostcluster.workloads import SERVE, SERVING, Workloads


def test_prometheus_finds_pods_and_can_lose_its_memory(own_cluster: Cluster, workloads: Workloads) -> None:
    labels = {"app": "metrics"}
    workloads.pod("exporter", SERVE, metadata={"labels": labels}, container=SERVING, nodeSelector=on("gpu-large"))
    configuration = pod_discovery(own_cluster.kubeconfig, namespace=workloads.namespace, selector="app=metrics")
    prometheus = own_cluster.prometheus("smoke", configuration)
    try:
        assert promtool("check", "config", prometheus.configuration_file).returncode == 0
        query = 'frostline_test_metric{pod="exporter",node="gpu-large"}'
        own_cluster.wait("a sample", lambda: [s["value"][1] for s in prometheus.query(query)] == ["42"], 40)
        [target] = prometheus.targets()
        assert target["labels"]["namespace"] == workloads.namespace

        workloads.kubectl("delete", "pod", "exporter")
        own_cluster.wait("the pod is no longer scraped", lambda: prometheus.targets() == [], 30)
        past = "last_over_time(frostline_test_metric[1h])"
        prometheus.stop()
        prometheus.start()
        assert len(prometheus.query(past)) == 1
        prometheus.stop()
        prometheus.forget()
        prometheus.start()
        assert prometheus.query(past) == []
    finally:
        prometheus.stop()


def on(node: str) -> dict[str, str]:
    return {"kubernetes.io/hostname": node}


def test_kwok_adds_nodes_by_the_hundred_and_runs_their_jobs(own_cluster: Cluster, workloads: Workloads) -> None:
    kwok = own_cluster.kwok()
    try:
        names = kwok.add_nodes(100, NodeSpec("fake", gpus=8, gpu_memory_mib=81920, gpu_product="NVIDIA-A100-SXM4-80GB"))
        assert len(names) == 100
        assert own_cluster.ready_nodes() == {*names, "gpu-small", "gpu-large"}
        node = own_cluster.get("node", names[-1])
        assert (node["status"]["allocatable"][GPU], node["metadata"]["labels"][f"{GPU}.memory"]) == ("8", "81920")

        big = {"resources": {"limits": {GPU: 8}}}
        workloads.job("fake", "not run", job={"completions": 20, "parallelism": 20}, container=big)
        assert workloads.finished("fake")["status"]["succeeded"] == 20
        pods = workloads.pods_of("fake")
        assert len({pod["spec"]["nodeName"] for pod in pods} & set(names)) > 1
        assert all(pod["status"]["podIP"].startswith("127.64.") for pod in pods)
    finally:
        kwok.remove_nodes()
        kwok.stop()
    assert own_cluster.ready_nodes() == {"gpu-small", "gpu-large"}


def test_helm_installs_upgrades_and_removes_a_chart(cluster: Client, workloads: Workloads, tmp_path: Path) -> None:
    (tmp_path / "templates").mkdir()
    (tmp_path / "Chart.yaml").write_text("apiVersion: v2\nname: smoke\nversion: 0.1.0\n")
    (tmp_path / "values.yaml").write_text("colour: blue\n")
    (tmp_path / "templates" / "config.yaml").write_text(
        "apiVersion: v1\nkind: ConfigMap\n"
        "metadata:\n  name: {{ .Release.Name }}\ndata:\n  colour: {{ .Values.colour }}\n"
    )

    def helm(*arguments: str) -> None:
        words = [
            str(build.program("helm")),
            "--kubeconfig",
            str(cluster.kubeconfig),
            "--namespace",
            workloads.namespace,
        ]
        done = subprocess.run([*words, *arguments], capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr

    helm("install", "smoke", str(tmp_path), "--wait")
    assert workloads.get("configmap", "smoke")["data"] == {"colour": "blue"}
    helm("upgrade", "smoke", str(tmp_path), "--set", "colour=white", "--wait")
    assert workloads.get("configmap", "smoke")["data"] == {"colour": "white"}
    helm("uninstall", "smoke", "--wait")
    assert "smoke" not in [config["metadata"]["name"] for config in workloads.find("configmaps")]
