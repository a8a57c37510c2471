"""A node: namespaces of its own with a real kubelet, containerd, kube-proxy and a device plugin that declares GPUs."""

import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from frostcluster import build, cgroups, images, nodeinit
from frostcluster.certs import Authority
from frostcluster.errors import ClusterError
from frostcluster.network import Network
from frostcluster.processes import Processes, eventually
from frostcluster.requirements import find_program

GPU = "nvidia.com/gpu"


@dataclass(frozen=True)
class NodeSpec:
    """What a node is to look like. Its GPUs are declared only: a container that gets one gets its name."""

    name: str
    gpus: int = 2
    gpu_memory_mib: int = 8192
    gpu_product: str = "NVIDIA-GeForce-RTX-3070"
    labels: Mapping[str, str] = field(default_factory=dict)

    def all_labels(self) -> dict[str, str]:
        """Return the node's labels, with those that GPU feature discovery would have given it."""
        if not self.gpus:
            return dict(self.labels)
        return {
            f"{GPU}.count": str(self.gpus),
            f"{GPU}.memory": str(self.gpu_memory_mib),
            f"{GPU}.product": self.gpu_product,
            f"{GPU}.present": "true",
            **self.labels,
        }


DEFAULT_NODES = (
    NodeSpec("gpu-small"),
    NodeSpec("gpu-large", gpu_memory_mib=24576, gpu_product="NVIDIA-GeForce-RTX-4090"),
)


class Node:
    """The nth node of a cluster."""

    def __init__(self, spec: NodeSpec, number: int, folder: Path, network: Network, processes: Processes) -> None:
        self.spec = spec
        self.name = spec.name
        self.address = network.node_address(number)
        self.cgroup = f"{network.bridge}/{spec.name}"
        self._number = number
        self._folder = folder / "nodes" / spec.name
        self._network = network
        self._processes = processes

    # Its life: power on, then join; the parts can be stopped and started one by one.

    def power_on(self, node_count: int) -> None:
        """Make the node's namespaces, plug it into the network and start its container runtime."""
        self._folder.mkdir(parents=True, exist_ok=True)
        ready = self._folder / "ready"
        ready.unlink(missing_ok=True)
        # -I: the first process needs the standard library only, whatever this Python's paths are
        init = [sys.executable, "-I", nodeinit.__file__, self.name, str(self._folder)]
        namespaces = ["--mount", "--propagation=slave", "--net", "--uts", "--pid", "--fork", "--mount-proc"]
        self._processes.start(self._process("init"), ["unshare", *namespaces, "--", *init], child=True)
        if not eventually(ready.exists, 15, 0.02):
            raise ClusterError(f"node {self.name} does not start:\n{self._processes.tail(self._process('init'))}")
        self._network.connect(self._number, self._init_pid(), node_count)
        self._start_containerd()

    def power_off(self) -> None:
        """Cut the power: everything on the node is gone at once, no one is told, the disk stays."""
        self._processes.stop(self._process("init"), signal.SIGKILL)
        for part in ("containerd", "kubelet", "kube-proxy", "gpu-plugin"):
            self._processes.stop(self._process(part))
        self._network.disconnect(self._number)
        cgroups.remove(self.cgroup)

    def join(self, authority: Authority, server: str) -> None:
        """Start what makes the node a part of the cluster. Returns before the node is Ready."""
        names = [f"DNS:{self.name}", f"IP:{self.address}"]
        pair = authority.issue(f"node-{self.name}", f"/O=system:nodes/CN=system:node:{self.name}", names)
        authority.kubeconfig(self._folder / "kubeconfig", server, *pair)
        proxy_pair = authority.issue("kube-proxy", "/CN=system:kube-proxy")
        authority.kubeconfig(self._folder / "proxy.kubeconfig", server, *proxy_pair)
        self._write("kubelet.json", self._kubelet_configuration(*pair, authority.certificate))
        self._write("kube-proxy.json", self._proxy_configuration())
        self._import_images()
        cgroups.create(self.cgroup)
        self.start_kubelet()
        self._start("kube-proxy", [build.program("kube"), "kube-proxy", f"--config={self._folder / 'kube-proxy.json'}"])
        if self.spec.gpus:
            self._start("gpu-plugin", [build.program("kube"), "gpu-plugin", f"--count={self.spec.gpus}"])

    def start_kubelet(self) -> None:
        """Start the node's kubelet."""
        labels = ",".join(f"{key}={value}" for key, value in self.spec.all_labels().items())
        self._start(
            "kubelet",
            [
                build.program("kube"),
                "kubelet",
                f"--config={self._folder / 'kubelet.json'}",
                f"--kubeconfig={self._folder / 'kubeconfig'}",
                f"--node-ip={self.address}",
                f"--hostname-override={self.name}",
                f"--node-labels={labels}",
            ],
        )

    def stop_kubelet(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Stop the node's kubelet. Its containers go on; the node is NotReady once the control plane misses it."""
        self._processes.stop(self._process("kubelet"), how)

    def run(self, *command: str | Path, check: bool = True) -> str:
        """Run a command on the node; return what it prints."""
        words = [str(word) for word in (*self._enter(), *command)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if check and done.returncode != 0:
            raise ClusterError(f"on {self.name}: {' '.join(map(str, command))} failed: {done.stderr.strip()[-500:]}")
        return done.stdout

    def ctr(self, *arguments: str | Path) -> str:
        """Run containerd's own client on the node, for images or to see what really runs."""
        return self.run(build.program("containerd", "ctr"), "--namespace", "k8s.io", *arguments)

    # The parts

    def _process(self, part: str) -> str:
        return f"{self.name}-{part}"

    def _init_pid(self) -> int:
        init = self._processes.get(self._process("init"))
        if init is None:
            raise ClusterError(f"node {self.name} is off")
        return init.pid

    def _enter(self) -> list[str]:
        return ["nsenter", "--target", str(self._init_pid()), "--mount", "--net", "--uts", "--pid", "--"]

    def _start(self, part: str, command: list[str | Path], environment: Mapping[str, str] | None = None) -> None:
        self._processes.start(self._process(part), [*self._enter(), *command], environment=environment, child=True)

    def _write(self, name: str, content: object) -> None:
        (self._folder / name).write_text(json.dumps(content, indent=1))  # JSON is YAML

    def _start_containerd(self) -> None:
        binaries = build.program("containerd").parent
        cni = self._folder / "cni"
        cni.mkdir(exist_ok=True)
        # ptp, not bridge: each pod is routed on its own, so that even two pods of one node that talk through a
        # service pass the node's address translation in both directions.
        plugin = {
            "type": "ptp",
            "ipMasq": False,
            "ipam": {
                "type": "host-local",
                "dataDir": "/run/containerd/addresses",
                "ranges": [[{"subnet": self._network.node_pods(self._number)}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        }
        self._write("cni/10-frostline.conflist", {"cniVersion": "1.0.0", "name": "frostline", "plugins": [plugin]})
        configuration = self._folder / "containerd.toml"
        configuration.write_text(_containerd_configuration(cni, self._folder))
        # containerd finds its shim on the PATH
        path = f"{binaries}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        self._start("containerd", [binaries / "containerd", "--config", configuration], {"PATH": path})

    def _import_images(self) -> None:
        def answers() -> bool:
            self._processes.require([self._process("containerd")])
            return "Server" in self.run(build.program("containerd", "ctr"), "version", check=False)

        if not eventually(answers, 30):
            raise ClusterError(f"no containerd on {self.name}:\n{self._processes.tail(self._process('containerd'))}")
        for image in (images.pause_image(build.program("pause")), images.hostroot_image()):
            archive = image.archive(self._folder / "image.tar")
            self.ctr("images", "import", archive)
            archive.unlink()

    def _kubelet_configuration(self, certificate: Path, key: Path, authority: Path) -> dict[str, object]:
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": self.address,
            "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(authority)},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": str(certificate),
            "tlsPrivateKeyFile": str(key),
            "clusterDNS": [self._network.host_address],
            "clusterDomain": "cluster.local",
            "resolvConf": "",  # the host's resolver is no business of the pods
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{self.cgroup}",
            "failCgroupV1": False,  # machines with the older cgroups still are many
            "failSwapOn": False,
            "enforceNodeAllocatable": [],  # nodes share one machine: each would cap what the others use
            "makeIPTablesUtilChains": False,
            "maxOpenFiles": 20000,
            "oomScoreAdj": 0,  # lowering it needs a capability that sandboxes withhold
            "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
            "imageGCHighThresholdPercent": 100,  # a disk that others fill must not cost us our images
            "nodeStatusUpdateFrequency": "3s",
            "nodeLeaseDurationSeconds": 12,
            "syncFrequency": "10s",
            "serializeImagePulls": True,
        }

    def _proxy_configuration(self) -> dict[str, object]:
        return {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "iptables",
            "bindAddress": self.address,
            "clientConnection": {"kubeconfig": str(self._folder / "proxy.kubeconfig")},
            "clusterCIDR": self._network.pods,
            "hostnameOverride": self.name,
            "conntrack": {"maxPerCore": 0, "min": 0},  # the limit is the whole machine's: leave it
            "iptables": {"minSyncPeriod": "200ms"},
        }


def _containerd_configuration(cni: Path, folder: Path) -> str:
    """Write containerd's settings. The paths are the standard ones: they are the node's own."""
    # overlayfs cannot lie on an overlay, which is what the disk is where this machine is itself a container
    kind = subprocess.run(
        ["stat", "--file-system", "--format=%T", folder], capture_output=True, text=True, check=True
    ).stdout.strip()
    snapshotter = "native" if kind == "overlayfs" else "overlayfs"
    binaries = build.program("cni", "ptp").parent
    return f"""version = 3
oom_score = 0
imports = []
[plugins.'io.containerd.cri.v1.images']
  snapshotter = '{snapshotter}'
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = '{images.PAUSE}'
[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true
  disable_apparmor = true
  enable_criu = false
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
    runtime_type = 'io.containerd.runc.v2'
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
      BinaryName = '{find_program("runc")}'
      SystemdCgroup = false
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ['{binaries}']
    conf_dir = '{cni}'
[plugins.'io.containerd.internal.v1.opt']
  path = '/run/containerd/opt'
[plugins.'io.containerd.nri.v1.nri']
  disable = true
"""
