"""Addresses, and the bridge that joins the host and the nodes. Nothing of it leaves the machine.

    host (control plane, DNS)  10.B.0.1     ---- bridge ----  node n  10.B.0.(10+n), pods 10.B.(64+n).0/24
                                                              services 10.B.128.0/20

Each node routes its own pods; the host and the other nodes have a route to them, so tests call pods by their address.
There is no route to the outside and no address translation. Two clusters differ in B.
"""

import ipaddress
import json
import subprocess
from dataclasses import dataclass

from frostcluster.errors import ClusterError

_FIRST, _COUNT = 180, 60


@dataclass(frozen=True)
class Network:
    """The addresses of one cluster, all derived from its index."""

    index: int

    @property
    def prefix(self) -> str:
        """The first two numbers of every address."""
        return f"10.{_FIRST + self.index}"

    @property
    def whole(self) -> str:
        """The range that holds every address of the cluster."""
        return f"{self.prefix}.0.0/16"

    @property
    def bridge(self) -> str:
        """The bridge's name (at most 15 characters, as the kernel wants it)."""
        return f"frost{self.index}"

    @property
    def host_address(self) -> str:
        """Where the control plane and the cluster's DNS listen."""
        return f"{self.prefix}.0.1"

    @property
    def loopback(self) -> str:
        """A loopback address of the cluster's own, for what nobody but the control plane may reach."""
        return f"127.66.{self.index}.1"

    @property
    def pods(self) -> str:
        """The range of all pods."""
        return f"{self.prefix}.64.0/18"

    @property
    def services(self) -> str:
        """The range of service addresses; its first one is the API server's."""
        return f"{self.prefix}.128.0/20"

    @property
    def api_service(self) -> str:
        """The API server's service address."""
        return f"{self.prefix}.128.1"

    def node_address(self, number: int) -> str:
        """Return the address of the nth node."""
        return f"{self.prefix}.0.{10 + number}"

    def node_pods(self, number: int) -> str:
        """Return the pod range of the nth node."""
        return f"{self.prefix}.{64 + number}.0/24"

    def node_link(self, number: int) -> str:
        """Return the name of the host's end of the nth node's cable."""
        return f"frost{self.index}n{number}"

    def create(self) -> None:
        """Make the bridge."""
        ip("link", "add", self.bridge, "type", "bridge")
        ip("addr", "add", f"{self.host_address}/24", "dev", self.bridge)
        ip("link", "set", self.bridge, "up")

    def connect(self, number: int, init_pid: int, node_count: int) -> None:
        """Plug the nth node's network namespace into the bridge, and set the routes there and here."""
        link, address = self.node_link(number), self.node_address(number)
        ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", str(init_pid))
        ip("link", "set", link, "master", self.bridge, "up")
        inside = ["nsenter", "--target", str(init_pid), "--net", "--", "ip", "-batch", "-"]
        lines = ["link set lo up", f"addr add {address}/24 dev eth0", "link set eth0 up"]
        others = [other for other in range(node_count) if other != number]
        lines += [f"route add {self.node_pods(other)} via {self.node_address(other)}" for other in others]
        # Services are translated before routing; what is left over must be refused, not sent round in circles.
        lines += [f"route add {self.services} dev eth0", "route add unreachable default metric 9999"]
        _run(inside, "\n".join(lines) + "\n")
        ip("route", "replace", self.node_pods(number), "via", address)
        if number == 0:  # the host reaches services through the first node
            ip("route", "replace", self.services, "via", address)

    def disconnect(self, number: int) -> None:
        """Pull the nth node's cable."""
        # A dying namespace may take its end of it, and so ours, away first
        _run(["ip", "link", "del", self.node_link(number)], check=False)

    def remove(self) -> None:
        """Remove the bridge and every cable of this cluster; the routes go with them."""
        for name in links():
            if name == self.bridge or name.startswith(f"{self.bridge}n"):
                _run(["ip", "link", "del", name], check=False)
        if self.bridge in links():
            raise ClusterError(f"cannot remove the bridge {self.bridge}")


def free_index(taken: set[int]) -> int:
    """Return an index whose addresses nobody on this machine uses or routes to."""
    present = set(links())
    routed = [
        ipaddress.ip_network(route["dst"], strict=False)
        for route in json.loads(ip("-json", "-4", "route", "show", "table", "all"))
        if route["dst"] != "default"
    ]
    for index in range(_COUNT):
        network = Network(index)
        wanted = ipaddress.ip_network(network.whole)
        if index not in taken and network.bridge not in present and not any(map(wanted.overlaps, routed)):
            return index
    raise ClusterError("no free address range for another cluster")


def links() -> list[str]:
    """Return the names of the host's network interfaces."""
    return [link["ifname"] for link in json.loads(ip("-json", "link", "show"))]


def ip(*arguments: str) -> str:
    """Run the ip program; return what it prints."""
    return _run(["ip", *arguments])


def _run(command: list[str], stdin: str = "", check: bool = True) -> str:
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    if check and done.returncode != 0:
        raise ClusterError(f"{' '.join(command)} failed: {done.stderr.strip()}")
    return done.stdout
