"""etcd, the API server, the controllers, the scheduler and the cluster's DNS, as processes of the host."""

import json
import signal
import ssl
import urllib.error
import urllib.request
from pathlib import Path

from frostcluster import build
from frostcluster.certs import Authority
from frostcluster.errors import ClusterError
from frostcluster.network import Network
from frostcluster.processes import Processes, eventually

API_SERVER = "kube-apiserver"
# A node that stops answering is NotReady after this many seconds, instead of Kubernetes' 50: tests wait for it.
NODE_GRACE_SECONDS = 16
# And its pods are evicted so many seconds later, instead of 300.
EVICTION_SECONDS = 20


class ControlPlane:
    """The control plane of one cluster."""

    def __init__(self, folder: Path, network: Network, processes: Processes) -> None:
        self.authority = Authority(folder / "pki")
        self.admin_kubeconfig = folder / "kubeconfig"
        self.server = f"https://{network.host_address}:6443"
        self.audit_log = folder / "audit.log"
        """One JSON document a line for each request of a service account outside kube-system."""
        self._folder = folder
        self._network = network
        self._processes = processes
        self._kube = build.program("kube")

    def prepare(self) -> None:
        """Make the certificates and the administrator's kubeconfig."""
        names = ["DNS:localhost", "DNS:kubernetes", "DNS:kubernetes.default", "DNS:kubernetes.default.svc"]
        names += [f"IP:{self._network.host_address}", f"IP:{self._network.api_service}"]
        self.authority.signing_key("service-accounts")
        self.authority.issue("apiserver", "/CN=kube-apiserver", names)
        certificate, key = self.authority.issue("admin", "/O=system:masters/CN=frostline-admin")
        self.authority.kubeconfig(self.admin_kubeconfig, self.server, certificate, key)

    def start(self) -> None:
        """Start everything; the API server answers when this returns."""
        etcd, peers = (f"http://{self._network.loopback}:{port}" for port in (2379, 2380))
        self._processes.start(
            "etcd",
            [
                self._kube,
                "etcd",
                f"--data-dir={self._folder / 'etcd'}",
                f"--listen-client-urls={etcd}",
                f"--advertise-client-urls={etcd}",
                f"--listen-peer-urls={peers}",
                f"--initial-advertise-peer-urls={peers}",
                f"--initial-cluster=default={peers}",
                "--unsafe-no-fsync",  # the data does not outlive the cluster
                "--log-level=warn",
            ],
        )
        self.start_api_server()
        self.start_controllers()
        self._start_dns()

    def start_api_server(self) -> None:
        """Start the API server and wait until it is ready."""
        pki = self.authority.folder
        network = self._network
        self._processes.start(
            API_SERVER,
            [
                self._kube,
                API_SERVER,
                f"--etcd-servers=http://{network.loopback}:2379",
                "--secure-port=6443",
                f"--bind-address={network.host_address}",
                f"--advertise-address={network.host_address}",
                f"--tls-cert-file={pki / 'apiserver.crt'}",
                f"--tls-private-key-file={pki / 'apiserver.key'}",
                f"--client-ca-file={self.authority.certificate}",
                f"--kubelet-client-certificate={pki / 'admin.crt'}",
                f"--kubelet-client-key={pki / 'admin.key'}",
                f"--kubelet-certificate-authority={self.authority.certificate}",
                "--kubelet-preferred-address-types=InternalIP",
                f"--service-account-key-file={pki / 'service-accounts.key'}",
                f"--service-account-signing-key-file={pki / 'service-accounts.key'}",
                "--service-account-issuer=https://kubernetes.default.svc",
                f"--service-cluster-ip-range={network.services}",
                "--authorization-mode=Node,RBAC",
                # The second as on OpenShift: who makes an object that blocks the end of its owner must be allowed to
                "--enable-admission-plugins=NodeRestriction,OwnerReferencesPermissionEnforcement",
                f"--audit-policy-file={self._audit_policy()}",
                f"--audit-log-path={self.audit_log}",
                "--allow-privileged=true",
                "--enable-aggregator-routing=true",  # webhooks are called at pod addresses: no kube-proxy on the host
                # Asked to stop, it would wait a minute for watches that nobody ends
                "--shutdown-watch-termination-grace-period=1s",
                f"--default-not-ready-toleration-seconds={EVICTION_SECONDS}",
                f"--default-unreachable-toleration-seconds={EVICTION_SECONDS}",
            ],
        )
        self.wait_ready()

    def _audit_policy(self) -> Path:
        """What installed programs ask for, and nothing of Kubernetes' own."""
        rules = [
            {"level": "None", "userGroups": ["system:serviceaccounts:kube-system"]},
            {"level": "Metadata", "userGroups": ["system:serviceaccounts"]},
        ]
        policy = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"], "rules": rules}
        file = self._folder / "audit-policy.json"
        file.write_text(json.dumps(policy))
        return file

    def stop_api_server(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Stop the API server; etcd and all others stay."""
        self._processes.stop(API_SERVER, how)

    def start_controllers(self) -> None:
        """Start the controller manager and the scheduler."""
        self._processes.start(
            "kube-controller-manager",
            [
                self._kube,
                "kube-controller-manager",
                f"--kubeconfig={self.admin_kubeconfig}",
                f"--service-account-private-key-file={self.authority.folder / 'service-accounts.key'}",
                f"--root-ca-file={self.authority.certificate}",
                "--use-service-account-credentials=true",
                "--leader-elect=false",
                "--secure-port=0",
                f"--node-monitor-grace-period={NODE_GRACE_SECONDS}s",
                "--node-monitor-period=2s",
            ],
        )
        self._processes.start(
            "kube-scheduler",
            [
                self._kube,
                "kube-scheduler",
                f"--kubeconfig={self.admin_kubeconfig}",
                "--leader-elect=false",
                "--secure-port=0",
            ],
        )

    def _start_dns(self) -> None:
        configuration = self._folder / "Corefile"
        configuration.write_text(
            f"cluster.local:53 {{\n  bind {self._network.host_address}\n  errors\n  cache 2\n"
            f"  kubernetes cluster.local {{\n    kubeconfig {self.admin_kubeconfig}\n  }}\n}}\n"
        )
        self._processes.start("coredns", [build.program("coredns"), "-conf", configuration])

    def wait_ready(self, seconds: float = 60) -> None:
        """Wait until the API server says that it is ready."""
        pki = self.authority.folder
        context = ssl.create_default_context(cafile=str(self.authority.certificate))
        context.load_cert_chain(pki / "admin.crt", pki / "admin.key")

        def ready() -> bool:
            self._processes.require(["etcd", API_SERVER])
            try:
                with urllib.request.urlopen(f"{self.server}/readyz", context=context, timeout=5) as answer:
                    return bool(answer.status == 200)
            except (urllib.error.URLError, OSError):
                return False

        if not eventually(ready, seconds):
            raise ClusterError(f"no API server after {seconds:.0f} s:\n{self._processes.tail(API_SERVER)}")
