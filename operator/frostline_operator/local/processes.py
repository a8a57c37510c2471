"""Trainer processes that outlive their parent and are found again.

A process is known by a lock, not by its id: the parent locks a file and hands the open file to the child, so the lock
lives exactly as long as the child, whatever becomes of the parent and whoever gets the id next.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

from frostline_operator.local.files import RunFiles

Life = Literal["Absent", "Alive", "Dead"]

_WRITE_PID_AND_BECOME = 'echo $$ > "$0.new" && mv "$0.new" "$0" && exec "$@"'


class LockedError(Exception):
    """Somebody else holds the lock."""


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold a lock file.

    Raises:
        LockedError: if another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise LockedError(file.read().strip()) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def life(files: RunFiles) -> Life:
    """Whether the run's process was ever started, is alive, or is gone."""
    if _locked(files.lock):
        return "Alive"
    return "Dead" if files.pid.exists() else "Absent"


def start(files: RunFiles, arguments: list[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start the run's process in a session of its own, so that a Ctrl-C at the terminal does not reach it.

    Args:
        files: of the run; its folder is made.
        arguments: for this Python interpreter, such as `-m frostline_trainer run`.
        environment: complete, not merged with the parent's.
    """
    files.folder.mkdir(parents=True, exist_ok=True)
    with files.lock.open("w") as lock, files.log.open("ab") as log:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        command = ["/bin/sh", "-c", _WRITE_PID_AND_BECOME, str(files.pid), sys.executable, *arguments]
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            pass_fds=(lock.fileno(),),
            start_new_session=True,
        )


def send(files: RunFiles, number: signal.Signals) -> None:
    """Send a signal to the run's process, if it is alive."""
    if not _locked(files.lock):
        return
    with contextlib.suppress(OSError, ValueError):
        os.kill(int(files.pid.read_text()), number)


def kill(files: RunFiles) -> None:
    """End the run's process, if it is alive, and wait until it is gone."""
    while life(files) == "Alive":
        send(files, signal.SIGKILL)
        time.sleep(0.01)


def age(files: RunFiles, now: float) -> float:
    """Seconds since the process was started, 0 where it never was."""
    with contextlib.suppress(OSError):
        return max(0.0, now - files.pid.stat().st_mtime)
    return 0.0


def last_lines(path: Path, count: int = 3) -> str:
    """The end of a log, for error messages."""
    with contextlib.suppress(OSError):
        text = path.read_bytes()[-4000:].decode(errors="replace").strip()
        return "\n".join(text.splitlines()[-count:])
    return ""


def _locked(path: Path) -> bool:
    try:
        with path.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.flock(file, fcntl.LOCK_UN)
            return False
    except BlockingIOError:
        return True
    except OSError:
        return False
