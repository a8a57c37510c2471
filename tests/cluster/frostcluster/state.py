"""What is running, on disk: one folder per cluster, so that any later process can find and remove all of it."""

import fcntl
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from frostcluster.errors import ClusterError

# Names become parts of file names and labels; the limit leaves room for both.
_NAME = re.compile(r"^[a-z][a-z0-9-]{0,30}$")


@dataclass
class ProcessRecord:
    """A process that was started: its id and its start time, for an id alone may by now be someone else's."""

    name: str
    pid: int
    started: int


@dataclass
class State:
    """Everything needed to remove a cluster when nothing but this file is left of the program that made it."""

    name: str
    index: int | None  # decides the bridge's name and all addresses; None: only helpers, for a cluster elsewhere
    marker: str  # in the environment of every process of this cluster
    owner: ProcessRecord | None = None  # the cluster goes when its owner has gone (tests); None: stays until told
    nodes: list[dict[str, Any]] = field(default_factory=list)  # what the nodes were asked to be
    processes: list[ProcessRecord] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        """The folder that holds all of the cluster's data."""
        return state_root() / self.name

    def save(self) -> None:
        """Write the state so that a reader, or a crash, never sees half of it."""
        partial = self.folder / "state.json.partial"
        partial.write_text(json.dumps(asdict(self), indent=1))
        partial.rename(self.folder / "state.json")


def state_root() -> Path:
    """Return the folder of all clusters of this machine. It is on disk: etcd and images do not belong in memory."""
    return Path(os.environ.get("FROSTLINE_CLUSTER_STATE") or "/var/lib/frostline-cluster").resolve()


def check_name(name: str) -> str:
    """Return the name if a cluster can be called that."""
    if not _NAME.match(name):
        raise ClusterError(f"a cluster's name is a-z, 0-9 and -, at most 31 long, not {name!r}")
    return name


def load(name: str) -> State | None:
    """Read a cluster's state; None where there is no such cluster."""
    try:
        data: dict[str, Any] = json.loads((state_root() / check_name(name) / "state.json").read_text())
    except FileNotFoundError:
        return None
    data["processes"] = [ProcessRecord(**record) for record in data["processes"]]
    data["owner"] = ProcessRecord(**data["owner"]) if data["owner"] else None
    return State(**data)


def load_all() -> list[State]:
    """Read the state of every cluster of this machine."""
    try:
        names = sorted(folder.name for folder in state_root().iterdir() if folder.is_dir())
    except FileNotFoundError:
        return []
    return [state for name in names if (state := load(name))]


@contextmanager
def machine_lock() -> Iterator[None]:
    """Hold the lock under which clusters come and go, so that two starting at once get different addresses.

    The lock is on the root folder itself: a lock file would be one more thing to leave behind.
    """
    with _lock(state_root()):
        yield


@contextmanager
def sweeping_lock() -> Iterator[None]:
    """Hold the lock for removing left-over clusters: a second sweeper would take a new one's network down."""
    with _lock(state_root().parent):
        yield


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        # The last cluster takes the folder with it: a lock on one that is gone keeps nobody out
        if folder.exists() and os.path.samestat(os.fstat(descriptor), folder.stat()):
            break
        os.close(descriptor)
    try:
        yield
    finally:
        os.close(descriptor)
