"""A whole cluster: starting it, finding it again from another process, and removing it without a trace."""

import contextlib
import os
import shutil
import signal
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from frostcluster import build, cgroups, network, nodeinit, processes, requirements, state
from frostcluster.client import Client
from frostcluster.controlplane import ControlPlane
from frostcluster.errors import ClusterError
from frostcluster.network import Network
from frostcluster.node import DEFAULT_NODES, GPU, Node, NodeSpec
from frostcluster.processes import Processes
from frostcluster.state import State

DEFAULT_NAME = "frostline"


class Cluster(Client):
    """A cluster of this machine."""

    def __init__(self, state: State) -> None:
        if state.index is None:
            raise ClusterError(f"{state.name!r} is no cluster: it holds the helpers of one that runs elsewhere")
        self.name = state.name
        self.state = state
        self.network = Network(state.index)
        processes = Processes(state)
        self.control_plane = ControlPlane(state.folder, self.network, processes)
        super().__init__(self.control_plane.admin_kubeconfig, processes)
        self.nodes = {
            spec["name"]: Node(NodeSpec(**spec), number, state.folder, self.network, processes)
            for number, spec in enumerate(state.nodes)
        }

    @classmethod
    def attach(cls, name: str = DEFAULT_NAME) -> "Cluster":
        """Return a cluster that another process started."""
        found = state.load(name)
        if found is None:
            raise ClusterError(f"no cluster {name!r} is up")
        return cls(found)

    def start(self) -> None:
        """Start everything and wait until pods can run on every node."""
        self.control_plane.prepare()
        # The container runtimes come up while the API server does
        for node in self.nodes.values():
            node.power_on(len(self.nodes))
        self.control_plane.start()
        for node in self.nodes.values():
            node.join(self.control_plane.authority, self.control_plane.server)
        self.wait_nodes()
        self.wait("the default service account", lambda: bool(self.find("serviceaccounts")), 30)

    def wait_nodes(self, names: Sequence[str] = (), seconds: float = 90) -> None:
        """Wait until nodes (all, unless named) are Ready and offer all of their GPUs."""
        wanted = [self.nodes[name] for name in names or self.nodes]

        def ready() -> bool:
            for node in wanted:
                self.processes.require([f"{node.name}-kubelet", f"{node.name}-containerd"])
            present = self.ready_nodes()
            return all(node.name in present and self.allocatable_gpus(node.name) == node.spec.gpus for node in wanted)

        self.wait(f"nodes Ready with their GPUs: {', '.join(node.name for node in wanted)}", ready, seconds)

    def allocatable_gpus(self, node: str) -> int:
        """Return how many GPUs a node offers at the moment."""
        return int(self.get("node", node)["status"].get("allocatable", {}).get(GPU, 0))

    def stop_api_server(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Stop the API server (SIGKILL: crash it); pods run on."""
        self.control_plane.stop_api_server(how)

    def start_api_server(self) -> None:
        """Start the API server again and wait until it answers."""
        self.control_plane.start_api_server()

    def down(self) -> None:
        """Remove the cluster."""
        down(self.name)


def up(name: str = DEFAULT_NAME, nodes: Sequence[NodeSpec] = DEFAULT_NODES, *, owned: bool = False) -> Cluster:
    """Start a cluster; what is left of one of that name that is no longer whole is removed first.

    An owned cluster belongs to this process: `sweep`, called by the next one, removes it should this one be killed.
    """
    state.check_name(name)
    requirements.require_platform()
    build.build()
    requirements.require_programs()
    old = state.load(name)
    if old and any(processes.is_alive(record) for record in old.processes):
        raise ClusterError(f"a cluster {name!r} is up already: take it down first, or give this one another name")
    down(name)
    try:
        cluster = Cluster(_register(name, nodes, owned))
        cluster.network.create()
        cluster.start()
    except BaseException:  # also when interrupted: nothing half-made stays
        down(name)
        raise
    return cluster


@contextmanager
def elsewhere(kubeconfig: Path, name: str) -> Iterator[Client]:
    """Have an existing cluster for the length of a with block; what we start beside it goes, the cluster stays."""
    if not kubeconfig.is_file():
        raise ClusterError(f"there is no kubeconfig {kubeconfig}")
    with sigterm_as_interrupt():
        sweep()
        down(name)
        helpers = _register(name, (), owned=True, network_needed=False)
        try:
            yield Client(kubeconfig, Processes(helpers))
        finally:
            down(name)


@contextmanager
def running(name: str, nodes: Sequence[NodeSpec] = DEFAULT_NODES) -> Iterator[Cluster]:
    """Have a cluster for the length of a with block, removed whatever ends the block, a SIGTERM to us included."""
    with sigterm_as_interrupt():
        sweep()
        cluster = up(name, nodes, owned=True)
        try:
            yield cluster
        finally:
            cluster.down()


def down(name: str = DEFAULT_NAME) -> None:
    """Remove a cluster, or whatever is left of one. Does nothing where there is nothing."""
    found = state.load(name)
    if found:
        # Nodes first: the end of a node's first process is the end of everything on it, at once
        for record in sorted(found.processes, key=lambda record: not record.name.endswith("-init")):
            processes.end(record, signal.SIGKILL)
        _end_marked(found.marker)
        if found.index is not None:
            net = Network(found.index)
            net.remove()
            cgroups.remove(net.bridge)
    with state.machine_lock():
        folder = state.state_root() / state.check_name(name)
        _refuse_mounts_below(folder)
        if folder.exists():
            shutil.rmtree(folder)
        if not state.load_all():
            _remove_mount_points()


def sweep() -> list[str]:
    """Remove the clusters whose owner is gone without having done so; return their names."""
    with state.sweeping_lock():
        orphans = [found.name for found in state.load_all() if found.owner and not processes.is_alive(found.owner)]
        for name in orphans:
            down(name)
    return orphans


def _register(name: str, nodes: Sequence[NodeSpec], owned: bool, network_needed: bool = True) -> State:
    """Put a new cluster on record, before anything of it exists."""
    with state.machine_lock():
        taken = {other.index for other in state.load_all() if other.index is not None}
        index = network.free_index(taken) if network_needed else None
        owner = processes.record_of("owner", os.getpid()) if owned else None
        specs = [asdict(spec) for spec in nodes]
        new = State(name=name, index=index, marker=uuid.uuid4().hex, owner=owner, nodes=specs)
        new.folder.mkdir()
        new.save()
        if network_needed:
            _make_mount_points()
    return new


def _end_marked(marker: str) -> None:
    """End what a crash kept from being recorded."""
    deadline = time.monotonic() + 10
    while left := processes.marked(marker):
        if time.monotonic() > deadline:
            raise ClusterError(f"processes do not end: {', '.join(str(record.pid) for record in left)}")
        for record in left:
            processes.end(record, signal.SIGKILL)


# Nodes mount their own folders over standard paths, in namespaces of their own. The paths must exist for that; those
# that did not are noted here and go with the last cluster (not before: to remove one would unmount it in all others).


def _mount_point_notes() -> Path:
    return state.state_root() / "mount-points"


def _make_mount_points() -> None:
    notes = _mount_point_notes()
    made = notes.read_text().splitlines() if notes.exists() else []
    for path in (*nodeinit.BOUND, *nodeinit.IN_MEMORY):
        for folder in reversed([Path(path), *Path(path).parents]):
            if not folder.exists():
                folder.mkdir()
                made.append(str(folder))
                notes.write_text("\n".join(made))


def _remove_mount_points() -> None:
    notes = _mount_point_notes()
    if notes.exists():
        in_use = _mounted_anywhere()
        for folder in sorted(notes.read_text().splitlines(), reverse=True):
            if folder not in in_use:
                with contextlib.suppress(OSError):  # it is no longer empty: someone else uses it by now
                    Path(folder).rmdir()
        notes.unlink()
    with contextlib.suppress(OSError):
        state.state_root().rmdir()


def _mounted_anywhere() -> set[str]:
    """Return the mount points of every process's view of the file system: removing such a folder unmounts it there."""
    found = set()
    for table in Path("/proc").glob("[0-9]*/mounts"):
        with contextlib.suppress(OSError):
            found |= {line.split()[1] for line in table.read_text().splitlines()}
    return found


def _refuse_mounts_below(folder: Path) -> None:
    """Never delete through a mount: what is mounted is not ours to delete. (Nodes' mounts are gone with them.)"""
    mounted = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    below = [path for path in mounted if Path(path).is_relative_to(folder)]
    if below:
        raise ClusterError(f"something is still mounted below {folder}: {', '.join(below)}")


@contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """Turn SIGTERM into an interrupt, so that finally blocks run. (pytest takes SystemExit for a failed test.)"""

    def leave(number: int, frame: object) -> None:
        raise KeyboardInterrupt("SIGTERM")

    try:
        before = signal.signal(signal.SIGTERM, leave)
    except ValueError:  # not the main thread, which alone may do that
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
