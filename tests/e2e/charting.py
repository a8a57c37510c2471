"""The chart in a cluster, as a person installs it: Helm, images, storage, and what its account asked the API server."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from frostcluster import build
from frostcluster.client import Client
from frostcluster.cluster import Cluster
from frostcluster.images import Image, hostroot_image
from frostcluster.runtime import python_runtime_mounts
from tests.e2e.operating import ROOT

CHART = ROOT / "charts" / "frostline"
REGISTRY, TAG = "localhost/frostline", "dev"
Manifest = dict[str, Any]
Right = tuple[str, str, str]
"""API group, resource with its part, verb."""


class Helm:
    """Helm, for one release in one namespace."""

    def __init__(self, client: Client, namespace: str, release: str = "frostline") -> None:
        self.client, self.namespace, self.release = client, namespace, release

    def run(self, *arguments: str) -> str:
        """Run it, or fail with what it complained of."""
        done = self.try_run(*arguments)
        assert done.returncode == 0, f"helm {' '.join(arguments)}: {done.stderr}\n{done.stdout}\n{self._pods()}"
        return done.stdout

    def try_run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run it and say how it went."""
        environment = {"KUBECONFIG": str(self.client.kubeconfig), "HOME": "/tmp", "PATH": "/usr/bin:/bin"}
        command = [str(build.program("helm")), *arguments, "--namespace", self.namespace]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=400, env=environment)

    def install(self, values: Path, *arguments: str) -> str:
        """Install, or upgrade; returns when the operator is ready."""
        words = ["upgrade", "--install", self.release, str(CHART), "--values", str(values), "--wait", "--timeout=100s"]
        words += ["--take-ownership", "--force-conflicts"]  # the definitions were applied by kubectl before
        return self.run(*words, *arguments)

    def pod(self) -> Manifest:
        """The operator's pod."""
        found = self.client.find("pods", self.namespace, "app.kubernetes.io/component=operator")
        alive = [pod for pod in found if not pod["metadata"].get("deletionTimestamp")]
        assert len(alive) == 1, [pod["metadata"]["name"] for pod in found]
        return alive[0]

    def _pods(self) -> str:
        described = self.client.try_kubectl("describe", "pods", "--namespace", self.namespace).stdout[-3000:]
        logs = ("logs", f"deploy/{self.release}", "--namespace", self.namespace, "--tail=20")
        said = [self.client.try_kubectl(*logs, *which).stdout for which in (("--previous",), ())]
        return "\n--- the operator's log, before and now\n".join([described, *said])


def render(*arguments: str, values: Mapping[str, Any] | None = None) -> subprocess.CompletedProcess[str]:
    """`helm template`, with values from a mapping."""
    command = [str(build.program("helm")), "template", "frostline", str(CHART), "--namespace", "fl", *arguments]
    if values is not None:
        command += ["--values", "-"]
    given = None if values is None else json.dumps(values)
    return subprocess.run(command, input=given, capture_output=True, text=True, check=False, timeout=60)


def import_images(cluster: Cluster) -> None:
    """Have images of operator and trainer on each node, of a few kilobytes: what is in them is mounted (`shelves`)."""
    runtime = python_runtime_mounts(Path(sys.prefix))
    variables = {item["name"]: item["value"] for item in runtime.env}
    variables["PYTHONPATH"] = f"{ROOT / 'operator'}:{ROOT / 'trainer'}:{ROOT / 'examples'}"
    entry = {"operator": [runtime.python, "-m", "frostline_operator.cli"], "trainer": []}
    for name, entrypoint in entry.items():
        image = dataclasses.replace(
            hostroot_image(), reference=f"{REGISTRY}/{name}:{TAG}", entrypoint=entrypoint, variables=variables
        )
        import_image(cluster, image)


def import_image(cluster: Cluster, image: Image) -> None:
    """Import an image into each node's containerd."""
    archive = image.archive(cluster.state.folder / "image.tar")
    for node in cluster.nodes.values():
        node.ctr("images", "import", archive)
    archive.unlink()


def shelves(client: Client, namespace: str, checkpoints: Path) -> tuple[list[Manifest], list[Manifest]]:
    """Make claims for this machine's Python and the sources; returns volumes and mounts of them.

    The restricted standard forbids volumes from the host, but not claims: whoever makes a PersistentVolume is trusted.
    """
    runtime = python_runtime_mounts(Path(sys.prefix), [ROOT / "operator", ROOT / "trainer", ROOT / "examples"])
    folders = {m["name"]: m["mountPath"] for m in runtime.mounts if m["name"].startswith("host-")}
    objects = []
    for name, folder in {**folders, "checkpoints": str(checkpoints)}.items():
        common = {"accessModes": ["ReadWriteMany"], "storageClassName": "", "volumeMode": "Filesystem"}
        objects.append(
            {
                "apiVersion": "v1",
                "kind": "PersistentVolume",
                "metadata": {"name": f"{namespace}-{name}", "labels": {"frostline.test/namespace": namespace}},
                "spec": {
                    **common,
                    "capacity": {"storage": "1Gi"},
                    "hostPath": {"path": folder, "type": "Directory"},
                    "claimRef": {"namespace": namespace, "name": name},
                },
            }
        )
        claim = {**common, "volumeName": f"{namespace}-{name}", "resources": {"requests": {"storage": "1Gi"}}}
        metadata = {"name": name, "namespace": namespace}
        objects.append({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": claim})
    client.apply(*objects, namespace=namespace)
    volumes = [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name in folders]
    mounts = [{"name": name, "mountPath": folder, "readOnly": True} for name, folder in folders.items()]
    return volumes, mounts


def values(volumes: list[Manifest], mounts: list[Manifest], **more: Any) -> Manifest:
    """Values of a release in the test cluster."""
    threads = [{"name": "OMP_NUM_THREADS", "value": "1"}, {"name": "MKL_NUM_THREADS", "value": "1"}]
    return {
        "image": {"repository": f"{REGISTRY}/operator", "tag": TAG},
        "lease": {"seconds": 4},
        "checkpoints": {"existingClaim": "checkpoints"},
        "settings": {"memory": "cpu", "tickSeconds": 1, "graceSeconds": 20, "keepJobsSeconds": 600},
        "operator": {"extraVolumes": volumes, "extraVolumeMounts": mounts},
        "trainer": {
            "image": {"repository": f"{REGISTRY}/trainer", "tag": TAG},
            "volumes": volumes,
            "volumeMounts": mounts,
            "env": threads,
            "sharedMemory": "64Mi",
        },
        **more,
    }


def asked(cluster: Cluster, account: str) -> dict[Right, set[int]]:
    """What a service account (`namespace:name`) has asked of the API server so far, and the codes of the answers."""
    found: dict[Right, set[int]] = {}
    for line in cluster.control_plane.audit_log.read_text().splitlines():
        event = json.loads(line)
        if event["user"]["username"] != f"system:serviceaccount:{account}" or "resource" not in event.get(
            "objectRef", {}
        ):
            continue
        where = event["objectRef"]
        resource = "/".join(filter(None, (where["resource"], where.get("subresource"))))
        right = (where.get("apiGroup", ""), resource, event["verb"])
        found.setdefault(right, set()).add(event.get("responseStatus", {}).get("code", 0))
    return found


def granted(client: Client, account: str, kinds: tuple[str, ...] = ("role", "clusterrole")) -> set[Right]:
    """What is granted to a service account by the roles that are bound to it."""
    namespace, _, name = account.partition(":")
    subject = {"kind": "ServiceAccount", "name": name, "namespace": namespace}
    rights: set[Right] = set()
    for kind in kinds:
        bindings = json.loads(client.kubectl("get", f"{kind}binding", "--all-namespaces", "--output=json"))["items"]
        for binding in bindings:
            if subject in (binding.get("subjects") or []):
                role = client.get(kind, binding["roleRef"]["name"], binding["metadata"].get("namespace", "default"))
                rights |= set(rights_of(role["rules"]))
    return rights


def rights_of(rules: list[Manifest]) -> Iterator[Right]:
    """A role's rules, one by one."""
    for rule in rules:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                for verb in rule["verbs"]:
                    yield group, resource, verb
