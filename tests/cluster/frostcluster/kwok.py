"""Nodes by the hundred: kwok keeps fake nodes Ready and carries their pods through life, without running anything.

Its pods get loopback addresses: by default kwok would invent 10.0.0.x, which whoever scrapes pods would then call.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from frostcluster import build
from frostcluster.node import GPU, NodeSpec

if TYPE_CHECKING:
    from frostcluster.client import Client

_ANNOTATION = {"kwok.x-k8s.io/node": "fake"}
_LABEL = "frostline.test/fake-node"
_PROCESS = "kwok"


class Kwok:
    """The kwok controller of one cluster, and its nodes."""

    def __init__(self, client: "Client", stages: Sequence[Path] = ()) -> None:
        """Take the cluster and, instead of kwok's own, the files that say how fake pods go through life."""
        self._client = client
        self._stages = stages
        self._count = 0

    def start(self) -> None:
        """Start the controller. It leaves real nodes alone."""
        folder = build.program("kwok").parent / "stages"
        node_stages = [
            folder / "node" / "fast" / "node-initialize.yaml",
            folder / "node" / "heartbeat-with-lease" / "node-heartbeat-with-lease.yaml",
        ]
        pod_stages = list(self._stages) or sorted((folder / "pod" / "fast").glob("pod-*.yaml"))
        self._client.processes.start(
            _PROCESS,
            [
                build.program("kwok"),
                f"--kubeconfig={self._client.kubeconfig}",
                "--manage-all-nodes=false",
                "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake",
                "--cidr=127.64.0.1/16",
                "--node-ip=127.0.0.1",
                "--node-lease-duration-seconds=40",
                *(f"--config={stage}" for stage in (*node_stages, *pod_stages)),
            ],
        )

    def add_nodes(self, count: int, spec: NodeSpec, *, taints: Sequence[Mapping[str, str]] = ()) -> list[str]:
        """Add nodes that look like `spec`, named after it and numbered; wait until they are Ready."""
        names = [f"{spec.name}-{self._count + number}" for number in range(count)]
        self._count += count
        self._client.apply(*(self._node(name, spec, taints) for name in names))
        self._client.wait(f"{count} fake nodes Ready", lambda: set(names) <= self._client.ready_nodes(), 60)
        return names

    def remove_nodes(self) -> None:
        """Remove all fake nodes."""
        self._client.kubectl("delete", "nodes", "--selector", f"{_LABEL}=true", "--ignore-not-found")

    def stop(self) -> None:
        """Stop the controller: fake nodes become NotReady, as if all of them had lost power."""
        self._client.processes.stop(_PROCESS)

    def _node(self, name: str, spec: NodeSpec, taints: Sequence[Mapping[str, str]]) -> dict[str, Any]:
        amounts = {"cpu": "32", "memory": "256Gi", "pods": "110"}
        if spec.gpus:
            amounts[GPU] = str(spec.gpus)
        return {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": name,
                "annotations": _ANNOTATION,
                "labels": {
                    "kubernetes.io/hostname": name,
                    "kubernetes.io/os": "linux",
                    _LABEL: "true",
                    **spec.all_labels(),
                },
            },
            "spec": {"taints": [dict(taint) for taint in taints]},
            "status": {"allocatable": amounts, "capacity": amounts, "nodeInfo": _NODE_INFO, "phase": "Running"},
        }


# The API insists on these fields; a fake node has nothing to say in most.
_NODE_INFO = {
    "architecture": "amd64",
    "bootID": "",
    "containerRuntimeVersion": "",
    "kernelVersion": "",
    "kubeProxyVersion": "",
    "kubeletVersion": "fake",
    "machineID": "",
    "operatingSystem": "linux",
    "osImage": "",
    "systemUUID": "",
}
