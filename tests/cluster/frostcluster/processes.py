"""Starting, finding and ending processes, without ever touching one that is not ours.

A process is known by its id and its start time. Every one also carries the cluster's marker in its environment, so
that what a crash kept from being recorded is found all the same.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from frostcluster.errors import ClusterError
from frostcluster.state import ProcessRecord, State

MARKER = "FROSTLINE_CLUSTER_MARKER"


def start_time(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot; None when it is gone or has ended (a zombie)."""
    try:
        # The second field, the program's name, may hold spaces and brackets: count from behind it.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def is_alive(record: ProcessRecord) -> bool:
    """Say whether the very process that was recorded still runs."""
    return start_time(record.pid) == record.started


def record_of(name: str, pid: int) -> ProcessRecord:
    """Record a running process."""
    started = start_time(pid)
    if started is None:
        raise ClusterError(f"{name} ended as soon as it was started")
    return ProcessRecord(name, pid, started)


def end(record: ProcessRecord, how: signal.Signals = signal.SIGTERM, patience: float = 10) -> None:
    """End a process and wait for it: as asked first, then, when it has not listened, by force."""
    for number in (how, signal.SIGKILL):
        if not is_alive(record):
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(record.pid, number)
        if eventually(lambda: not is_alive(record), patience, 0.02):
            return
    raise ClusterError(f"{record.name} (process {record.pid}) does not end")


def eventually(condition: Callable[[], bool], seconds: float, interval: float = 0.1) -> bool:
    """Wait until a condition holds; say whether it did in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(interval)
    return True


def marked(marker: str) -> list[ProcessRecord]:
    """Find the processes that carry a marker, recorded or not."""
    wanted = f"{MARKER}={marker}".encode()
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        with contextlib.suppress(OSError):  # ends while we look
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                pid = int(folder.name)
                if (started := start_time(pid)) is not None:
                    found.append(ProcessRecord(f"process {pid}", pid, started))
    return found


class Processes:
    """The long-lived processes of one cluster: each in a session of its own, with a log, on record from the start."""

    def __init__(self, state: State) -> None:
        self._state = state
        self.logs = state.folder / "logs"
        self.logs.mkdir(exist_ok=True)
        self._started: list[subprocess.Popen[bytes]] = []

    def start(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        environment: Mapping[str, str] | None = None,
        child: bool = False,
    ) -> ProcessRecord:
        """Start a program and record it.

        With `child`, the command is one that forks and waits (unshare, nsenter), and its child is what is recorded: a
        signal to the command itself would not reach the program.
        """
        if self.get(name):
            raise ClusterError(f"{name} is running already")
        with (self.logs / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={"PATH": _path(), MARKER: self._state.marker, "HOME": "/root", **(environment or {})},
                start_new_session=True,
                cwd="/",
            )
        self._started.append(process)  # to be waited for when it ends; and Popen warns of processes it is to forget
        try:
            record = record_of(name, _child_of(process.pid) if child else process.pid)
        except ClusterError as error:
            raise ClusterError(f"{error}\n{self.tail(name)}") from None
        self._state.processes = [*(p for p in self._state.processes if p.name != name), record]
        self._state.save()
        return record

    def get(self, name: str) -> ProcessRecord | None:
        """Return the process of that name if it runs."""
        for record in self._state.processes:
            if record.name == name and is_alive(record):
                return record
        return None

    def stop(self, name: str, how: signal.Signals = signal.SIGTERM, patience: float = 15) -> None:
        """Stop a process of that name if it runs."""
        if record := self.get(name):
            end(record, how, patience)
        self._started = [process for process in self._started if process.poll() is None]
        self._state.processes = [record for record in self._state.processes if record.name != name]
        self._state.save()

    def require(self, names: Sequence[str]) -> None:
        """Fail with the end of its log if one of these processes has ended."""
        for name in names:
            if not self.get(name):
                raise ClusterError(f"{name} has ended:\n{self.tail(name)}")

    def tail(self, name: str, lines: int = 15) -> str:
        """Return the end of a process's log, for an error message."""
        log = self.logs / f"{name}.log"
        try:
            text = log.read_text(errors="replace").splitlines()
        except FileNotFoundError:
            text = []
        return "\n".join([*(line[:300] for line in text[-lines:]), f"(whole log: {log})"])


def _path() -> str:
    return os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])


def _child_of(pid: int) -> int:
    children = Path(f"/proc/{pid}/task/{pid}/children")
    found: list[int] = []

    def look() -> bool:
        with contextlib.suppress(OSError):
            found[:] = [int(child) for child in children.read_text().split()]
        return bool(found) or start_time(pid) is None

    eventually(look, 5, 0.005)
    if not found:
        raise ClusterError("the command ended before it ran its program")
    return found[0]
