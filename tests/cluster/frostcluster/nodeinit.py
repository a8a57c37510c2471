"""The first process of a node: lays out the node's own view of the file system, then reaps until it is killed.

A node is a set of namespaces (mounts, processes, network, host name), like a very small machine. Everything in it is a
descendant of this process in its process namespace, so killing this one process ends all of the node, containers
included, and its mounts and network namespaces go with it. Nothing has to be taken apart, whatever happened before.

Run as a script inside the new namespaces: nodeinit.py HOSTNAME FOLDER
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

# Where Kubernetes and containerd keep their data. Some of these paths are compiled in, so every node gets its own.
BOUND = ("/var/lib/kubelet", "/var/lib/containerd", "/var/lib/cni", "/var/log/pods", "/var/log/containers")
IN_MEMORY = ("/run/containerd", "/run/netns")

# The kubelet insists on these. They are the whole machine's, so the node sees a file that says yes instead: neither
# changed for others nor to be restored.
TUNABLES = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}


def folder_name(path: str) -> str:
    """Return the name under which a node's folder keeps one of the standard paths."""
    return path.strip("/").replace("/", "-")


def main(hostname: str, folder: Path) -> None:
    """Set up the node and stay."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    socket.sethostname(hostname)
    for path in BOUND:
        own = folder / folder_name(path)
        own.mkdir(parents=True, exist_ok=True)
        _mount("--bind", str(own), path)
    _mount("--make-rshared", "/var/lib/kubelet")
    for path in IN_MEMORY:
        _mount("-t", "tmpfs", "-o", "mode=755", "frostline", path)
    tunables = folder / "tunables"
    tunables.mkdir(exist_ok=True)
    for name, value in TUNABLES.items():
        decoy = tunables / name.replace("/", "-")
        decoy.write_text(value + "\n")
        _mount("--bind", str(decoy), f"/proc/sys/{name}")
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    (folder / "ready").touch()
    while True:
        signal.sigwait([signal.SIGCHLD])
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
