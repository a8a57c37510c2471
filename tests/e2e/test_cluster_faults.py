"""What Frostline must survive can be made to happen: the cluster's parts stop, crash and start again."""

import json
import signal
from typing import Any

import pytest
from frostcluster.cluster import Cluster
from frostcluster.errors import ClusterError
from frostcluster.node import GPU
from frostcluster.workloads import Workloads

TICK = """
import itertools, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
for tick in itertools.count():
    print(tick, flush=True)
    time.sleep(0.2)
"""
ONE_GPU = {"resources": {"limits": {GPU: 1}}}
ON_SMALL = {"kubernetes.io/hostname": "gpu-small"}


def ticks(workloads: Workloads, cluster: Cluster, pod: str) -> int:
    """Count what a container has printed, on the node's disk: it does not take a kubelet to tell."""
    uid = workloads.get("pod", pod)["metadata"]["uid"]
    log = f"/var/log/pods/{workloads.namespace}_{pod}_{uid}/main/0.log"
    return len(cluster.nodes["gpu-small"].run("cat", log).splitlines())


def container_id(pod: dict[str, Any]) -> str:
    return str(pod["status"]["containerStatuses"][0]["containerID"])


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_node_without_kubelet_is_not_ready_and_comes_back_as_it_was(
    own_cluster: Cluster, workloads: Workloads, how: signal.Signals
) -> None:
    node = own_cluster.nodes["gpu-small"]
    workloads.pod("survivor", TICK, container=ONE_GPU, nodeSelector=ON_SMALL)
    before = workloads.wait_phase("survivor", "Running")

    node.stop_kubelet(how)
    try:
        own_cluster.wait("the node is missed", lambda: own_cluster.ready_nodes() == {"gpu-large"}, 60)
        printed = ticks(workloads, own_cluster, "survivor")
        own_cluster.wait("its container goes on", lambda: ticks(workloads, own_cluster, "survivor") > printed, 10)
    finally:
        node.start_kubelet()
    own_cluster.wait_nodes(["gpu-small"])

    assert own_cluster.get("node", "gpu-small")["status"]["capacity"][GPU] == "2"
    after = workloads.get("pod", "survivor")
    assert (after["status"]["phase"], container_id(after)) == ("Running", container_id(before))
    # The GPU that it holds is still taken: one more fits, a second does not
    for name in ("second", "third"):
        workloads.pod(name, TICK, container=ONE_GPU, nodeSelector=ON_SMALL)
        if name == "second":
            workloads.wait_phase("second", "Running")
    [condition] = conditions_of(workloads, "third")
    assert condition["reason"] == "Unschedulable"


def conditions_of(workloads: Workloads, pod: str) -> list[dict[str, Any]]:
    def decided() -> bool:
        return bool(workloads.get("pod", pod)["status"].get("conditions"))

    workloads.client.wait("the scheduler has looked", decided, 20)
    conditions: list[dict[str, Any]] = workloads.get("pod", pod)["status"]["conditions"]
    return conditions


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_job_outlives_an_outage_of_the_api_server(
    own_cluster: Cluster, workloads: Workloads, how: signal.Signals
) -> None:
    workloads.job("outage", "import time; time.sleep(3); open('/dev/termination-log', 'w').write('kept')")
    own_cluster.wait("it runs", lambda: [p["status"]["phase"] for p in workloads.pods_of("outage")] == ["Running"])

    own_cluster.stop_api_server(how)
    try:
        with pytest.raises(ClusterError):
            own_cluster.kubectl("get", "nodes", "--request-timeout=2s")
    finally:
        own_cluster.start_api_server()

    assert workloads.finished("outage")["status"]["succeeded"] == 1
    assert len(workloads.pods_of("outage")) == 1


def test_a_deleted_node_registers_again_with_its_labels_and_gpus(own_cluster: Cluster) -> None:
    node = own_cluster.nodes["gpu-large"]
    uid = own_cluster.get("node", node.name)["metadata"]["uid"]

    own_cluster.delete_node(node.name)
    assert own_cluster.ready_nodes() == {"gpu-small"}
    node.stop_kubelet()
    node.start_kubelet()
    own_cluster.wait("it is there again", lambda: node.name in own_cluster.ready_nodes())
    own_cluster.wait_nodes([node.name])

    again = own_cluster.get("node", node.name)["metadata"]
    assert again["uid"] != uid
    assert again["labels"][f"{GPU}.memory"] == "24576"


def test_a_node_that_loses_power_takes_its_pods_with_it_and_can_come_back(
    own_cluster: Cluster, workloads: Workloads
) -> None:
    node = own_cluster.nodes["gpu-small"]
    workloads.pod("lost", TICK, container=ONE_GPU, nodeSelector=ON_SMALL)
    workloads.wait_phase("lost", "Running")

    node.power_off()
    try:
        with pytest.raises(ClusterError, match="is off"):
            node.run("true")
        own_cluster.wait("the node is missed", lambda: own_cluster.ready_nodes() == {"gpu-large"}, 60)
    finally:
        node.power_on(len(own_cluster.nodes))
        node.join(own_cluster.control_plane.authority, own_cluster.control_plane.server)
    own_cluster.wait_nodes([node.name])

    workloads.job("next", "print('works')", container=ONE_GPU, nodeSelector=ON_SMALL)
    assert workloads.finished("next")["status"]["succeeded"] == 1
    # The pod that was there: its container is gone, and restartPolicy Never means that it stays so
    own_cluster.wait("the lost pod is found dead", lambda: phase_or_gone(workloads, "lost") != "Running", 60)


def phase_or_gone(workloads: Workloads, pod: str) -> str:
    found = workloads.client.try_kubectl("get", "pod", pod, "-n", workloads.namespace, "-o", "json")
    return str(json.loads(found.stdout)["status"]["phase"]) if found.returncode == 0 else "gone"
