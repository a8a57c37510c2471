"""Jobs and pods that run a piece of Python, in a namespace of the test's own, and what became of them."""

import json
from typing import Any

from frostcluster.client import Client, Manifest, condition_status
from frostcluster.errors import ClusterError
from frostcluster.runtime import RESTRICTED_POD, PythonRuntime

# Answers every request with one metric
SERVE = """
import http.server
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b"frostline_test_metric 42\\n"
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass
http.server.ThreadingHTTPServer(("", 8080), Answer).serve_forever()
"""
SERVING = {"ports": [{"name": "metrics", "containerPort": 8080}], "readinessProbe": {"tcpSocket": {"port": 8080}}}
# PID 1 gets no default action for SIGTERM: without this, only the kill at the end of the grace period ends it.
SLEEP = "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(143)); time.sleep(600)"


class Workloads:
    """One namespace of a cluster, and the Python workloads in it."""

    def __init__(self, client: Client, namespace: str, runtime: PythonRuntime) -> None:
        self.client = client
        self.namespace = namespace
        self.runtime = runtime

    def create(self) -> None:
        """Make the namespace."""
        self.client.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}})
        self.client.wait("the default service account", lambda: bool(self.find("serviceaccounts")), 30)

    def delete(self) -> None:
        """Remove the namespace and all in it, without waiting for the end of it."""
        self.client.kubectl("delete", "namespace", self.namespace, "--wait=false")

    def pod_spec(self, script: str, *, container: Manifest | None = None, **fields: Any) -> Manifest:
        """Return the spec of a restricted pod that runs a script."""
        return {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 2,
            "securityContext": RESTRICTED_POD,
            **fields,
            "volumes": [*self.runtime.volumes, *fields.get("volumes", [])],
            "containers": [self.runtime.container("main", "-c", script, **(container or {}))],
        }

    def pod(
        self,
        name: str,
        script: str,
        *,
        metadata: Manifest | None = None,
        container: Manifest | None = None,
        **fields: Any,
    ) -> None:
        """Create a pod that runs a script."""
        self.apply(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, **(metadata or {})},
                "spec": self.pod_spec(script, container=container, **fields),
            }
        )

    def job(
        self,
        name: str,
        script: str,
        *,
        job: Manifest | None = None,
        metadata: Manifest | None = None,
        container: Manifest | None = None,
        **fields: Any,
    ) -> None:
        """Create a Job that runs a script once; `job` are fields of the Job's spec, the others of its pods'."""
        template = {"metadata": metadata or {}, "spec": self.pod_spec(script, container=container, **fields)}
        self.apply(
            {
                "apiVersion": "batch/v1",
                "kind": "Job",
                "metadata": {"name": name},
                "spec": {"backoffLimit": 0, **(job or {}), "template": template},
            }
        )

    def finished(self, job: str, seconds: float = 90) -> Manifest:
        """Wait for the end of a Job, good or bad; return the Job."""

        def over() -> bool:
            conditions = self.get("job", job).get("status", {}).get("conditions", [])
            return "True" in (condition_status(conditions, "Complete"), condition_status(conditions, "Failed"))

        try:
            self.client.wait(f"Job {job} has ended", over, seconds)
        except ClusterError as error:
            raise ClusterError(f"{error}\n{self.client.kubectl('describe', 'pods', '-n', self.namespace)}") from None
        return self.get("job", job)

    def pods_of(self, job: str) -> list[Manifest]:
        """Return the pods of a Job, the oldest first."""
        pods = self.client.find("pods", self.namespace, f"batch.kubernetes.io/job-name={job}")
        return sorted(pods, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))

    def phase(self, pod: str) -> str:
        """Return the phase of a pod."""
        return str(self.get("pod", pod)["status"]["phase"])

    def wait_phase(self, pod: str, phase: str, seconds: float = 60) -> Manifest:
        """Wait until a pod is in a phase; return the pod."""
        self.client.wait(f"pod {pod} is {phase}", lambda: self.phase(pod) == phase, seconds)
        return self.get("pod", pod)

    def get(self, kind: str, name: str) -> Manifest:
        """Return one object of the namespace."""
        return self.client.get(kind, name, self.namespace)

    def find(self, kind: str) -> list[Manifest]:
        """Return the objects of a kind in the namespace."""
        return self.client.find(kind, self.namespace)

    def apply(self, *manifests: Manifest) -> None:
        """Create or change objects in the namespace."""
        self.client.apply(*manifests, namespace=self.namespace)

    def kubectl(self, *arguments: str) -> str:
        """Run kubectl in the namespace."""
        return self.client.kubectl("--namespace", self.namespace, *arguments)

    def logs(self, pod: str) -> str:
        """Return what a pod has printed."""
        return self.kubectl("logs", pod)

    def logs_or_none(self, pod: str) -> str:
        """Return what a pod has printed so far, nothing while it has not even started."""
        return self.client.try_kubectl("--namespace", self.namespace, "logs", pod).stdout


def terminated(pod: Manifest) -> Manifest:
    """Return how a pod's container ended: exitCode, reason and message."""
    state: Manifest = pod["status"]["containerStatuses"][0]["state"]
    if "terminated" not in state:
        raise ClusterError(f"the container of {pod['metadata']['name']} has not ended: {json.dumps(state)}")
    ended: Manifest = state["terminated"]
    return ended
