"""Talking to a cluster as its users do: through kubectl and a kubeconfig, wherever the cluster runs."""

import json
import subprocess
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from frostcluster import build
from frostcluster.errors import ClusterError
from frostcluster.kwok import Kwok
from frostcluster.processes import Processes, eventually
from frostcluster.prometheus import Prometheus, Protection, pod_discovery

Manifest = dict[str, Any]


class Client:
    """A cluster that is reached through a kubeconfig, and the helpers that run beside it on this machine."""

    def __init__(self, kubeconfig: Path, processes: Processes) -> None:
        self.kubeconfig = kubeconfig
        self.processes = processes

    def kubectl(self, *arguments: str, stdin: str | None = None, timeout: float = 120) -> str:
        """Run kubectl; return what it prints, or fail with what it complained of."""
        done = self.try_kubectl(*arguments, stdin=stdin, timeout=timeout)
        if done.returncode != 0:
            raise ClusterError(f"kubectl {' '.join(arguments)} failed: {done.stderr.strip()}")
        return done.stdout

    def try_kubectl(
        self, *arguments: str, stdin: str | None = None, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl and return how it went."""
        command = [str(build.program("kube")), "kubectl", f"--kubeconfig={self.kubeconfig}", *arguments]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, timeout=timeout)

    def get(self, kind: str, name: str, namespace: str = "default") -> Manifest:
        """Return one object."""
        found: Manifest = json.loads(self.kubectl("get", kind, name, "--namespace", namespace, "--output=json"))
        return found

    def find(self, kind: str, namespace: str = "default", selector: str = "") -> list[Manifest]:
        """Return the objects of a kind that carry the given labels."""
        words = ["get", kind, "--namespace", namespace, "--output=json", f"--selector={selector}"]
        items: list[Manifest] = json.loads(self.kubectl(*words))["items"]
        return items

    def apply(self, *manifests: Manifest, namespace: str = "default") -> None:
        """Create or change objects."""
        document = {"apiVersion": "v1", "kind": "List", "items": list(manifests)}
        self.kubectl("apply", "--namespace", namespace, "--filename=-", stdin=json.dumps(document))

    def wait(self, what: str, condition: Callable[[], bool], seconds: float = 60) -> None:
        """Wait for something to become true, or fail and say what did not."""
        if not eventually(condition, seconds, 0.3):
            raise ClusterError(f"after {seconds:.0f} s still not so: {what}")

    def prometheus(
        self, name: str = "main", configuration: Manifest | None = None, protection: Protection | None = None
    ) -> Prometheus:
        """Start a Prometheus; it scrapes the default namespace's pods at their `metrics` port unless told otherwise."""
        server = Prometheus(self, name, configuration or pod_discovery(self.kubeconfig), protection)
        server.start()
        return server

    def kwok(self, stages: Sequence[Path] = ()) -> Kwok:
        """Start kwok, for fake nodes beside the real ones."""
        controller = Kwok(self, stages)
        controller.start()
        return controller

    def label_node(self, name: str, labels: dict[str, str | None]) -> None:
        """Set labels of a node; None removes one."""
        words = [f"{key}-" if value is None else f"{key}={value}" for key, value in labels.items()]
        self.kubectl("label", "node", name, "--overwrite", *words)

    def delete_node(self, name: str) -> None:
        """Delete a node's object. A kubelet makes it anew only when it is started again."""
        self.kubectl("delete", "node", name)

    def ready_nodes(self) -> set[str]:
        """Return the names of the nodes that are Ready."""
        return {node["metadata"]["name"] for node in self.find("nodes") if is_ready(node)}


def is_ready(node: Manifest) -> bool:
    """Say whether a node is Ready."""
    return condition_status(node.get("status", {}).get("conditions", []), "Ready") == "True"


def condition_status(conditions: Iterable[Manifest], kind: str) -> str | None:
    """Return the status of a condition, None where there is no such condition."""
    return next((str(condition["status"]) for condition in conditions if condition["type"] == kind), None)
