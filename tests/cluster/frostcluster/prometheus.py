"""A real Prometheus that finds a cluster's pods through the Kubernetes API, as it would inside a cluster."""

import base64
import json
import shutil
import signal
import socket
import ssl
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from frostcluster import build
from frostcluster.errors import ClusterError
from frostcluster.processes import eventually

if TYPE_CHECKING:
    from frostcluster.client import Client


@dataclass(frozen=True)
class Protection:
    """TLS and basic authentication, as Prometheus itself has them. Its one user is `reader`, of password `PASSWORD`."""

    certificate: Path
    key: Path
    authority: Path

    USER = "reader"
    PASSWORD = "open sesame"
    _HASH = "$2b$04$Mtb7od6W8fkrStowfYPsb.BCYsf82/UXyRv/h28qtgz2KXmQrv2C."

    def web_configuration(self) -> dict[str, Any]:
        """Return the content of Prometheus's --web.config.file."""
        files = {"cert_file": str(self.certificate), "key_file": str(self.key)}
        return {"tls_server_config": files, "basic_auth_users": {self.USER: self._HASH}}

    def header(self) -> str:
        """Return the Authorization header of its user."""
        return "Basic " + base64.b64encode(f"{self.USER}:{self.PASSWORD}".encode()).decode()


class Prometheus:
    """One Prometheus. It can be stopped, crashed, and started with or without its memory."""

    def __init__(
        self,
        client: "Client",
        name: str,
        configuration: dict[str, Any],
        protection: Protection | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        # host: an address of this machine; pods reach that of the cluster's bridge only
        self._client = client
        self._process = f"prometheus-{name}"
        self._folder = client.processes.logs.parent / self._process
        self._configuration = configuration
        self._protection = protection
        self._address = f"{host}:{_free_port()}"
        self.url = f"{'https' if protection else 'http'}://{self._address}"

    def configure(self, configuration: dict[str, Any]) -> None:
        """What it does from its next start on: for a target that must know its address first."""
        self._configuration = configuration

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._folder.mkdir(exist_ok=True)
        self.configuration_file.write_text(json.dumps(self._configuration, indent=1))
        web: list[str] = []
        if self._protection is not None:
            file = self._folder / "web.json"
            file.write_text(json.dumps(self._protection.web_configuration()))
            web = [f"--web.config.file={file}"]
        self._client.processes.start(
            self._process,
            [
                build.program("prometheus"),
                f"--config.file={self.configuration_file}",
                f"--storage.tsdb.path={self._folder / 'data'}",
                f"--web.listen-address={self._address}",
                "--web.enable-lifecycle",
                *web,
            ],
        )

        def ready() -> bool:
            self._client.processes.require([self._process])
            try:
                return self._get("/-/ready") is not None
            except (urllib.error.URLError, OSError):
                return False

        if not eventually(ready, 30):
            raise ClusterError(f"Prometheus does not answer:\n{self._client.processes.tail(self._process)}")

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Stop it (SIGKILL: crash it)."""
        self._client.processes.stop(self._process, how)

    def forget(self) -> None:
        """Remove all samples of a stopped Prometheus: it starts anew with an empty database."""
        if self._client.processes.get(self._process):
            raise ClusterError("Prometheus is running: stop it before its data is removed")
        shutil.rmtree(self._folder / "data", ignore_errors=True)

    @property
    def configuration_file(self) -> Path:
        """The file with its configuration."""
        return self._folder / "prometheus.json"

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Evaluate an expression now; return the samples."""
        parameters = urllib.parse.urlencode({"query": expression})
        result: list[dict[str, Any]] = json.loads(self._get(f"/api/v1/query?{parameters}"))["data"]["result"]
        return result

    def targets(self) -> list[dict[str, Any]]:
        """Return what it scrapes at the moment."""
        targets: list[dict[str, Any]] = json.loads(self._get("/api/v1/targets?state=active"))["data"]["activeTargets"]
        return targets

    def _get(self, path: str) -> bytes:
        request = urllib.request.Request(f"{self.url}{path}")
        context = None
        if self._protection is not None:
            request.add_header("Authorization", self._protection.header())
            context = ssl.create_default_context(cafile=str(self._protection.authority))
        with urllib.request.urlopen(request, timeout=10, context=context) as answer:
            return bytes(answer.read())


def pod_discovery(
    kubeconfig: Path,
    *,
    namespace: str = "default",
    selector: str = "",
    scrape_interval: str = "1s",
    port: str = "metrics",
) -> dict[str, Any]:
    """Return a configuration that scrapes every running pod with these labels at its port of that name."""
    source = "__meta_kubernetes_"
    discovery: dict[str, Any] = {
        "role": "pod",
        "kubeconfig_file": str(kubeconfig),
        "namespaces": {"names": [namespace]},
    }
    if selector:
        discovery["selectors"] = [{"role": "pod", "label": selector}]
    return {
        "global": {"scrape_interval": scrape_interval, "scrape_timeout": scrape_interval},
        "scrape_configs": [
            {
                "job_name": "pods",
                "kubernetes_sd_configs": [discovery],
                "relabel_configs": [
                    {"source_labels": [f"{source}pod_container_port_name"], "regex": port, "action": "keep"},
                    {"source_labels": [f"{source}pod_phase"], "regex": "Running", "action": "keep"},
                    # Nobody answers for the pods of fake nodes
                    {"source_labels": [f"{source}pod_ip"], "regex": r"127\..*", "action": "drop"},
                    {"source_labels": [f"{source}pod_name"], "target_label": "pod"},
                    {"source_labels": [f"{source}namespace"], "target_label": "namespace"},
                    {"source_labels": [f"{source}pod_node_name"], "target_label": "node"},
                ],
            }
        ],
    }


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run promtool, which checks configurations and rules; return how it went."""
    command = [build.program("prometheus", "promtool"), *arguments]
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, timeout=60)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
