"""The durable record of a run."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from frostline_trainer.checkpoints.store import write_atomically
from frostline_trainer.contract import RESULT_ENV, TERMINATION_LOG, RunResult
from frostline_trainer.device.failures import is_no_space
from frostline_trainer.logs import log


def result_path() -> Path:
    """Where the result goes: `FROSTLINE_RESULT`, else the Kubernetes termination log."""
    return Path(os.environ.get(RESULT_ENV) or TERMINATION_LOG)


def write_result(result: RunResult, path: Path | None = None) -> bool:
    """Write the result so that a reader sees all of it or none; False where no space is left for it.

    A termination log is a mounted file, over which nothing can be renamed; there, and only there, the document goes
    out in one write, which the kubelet reads after the process is gone. Where it cannot be written at all (a machine
    without the mount), the log line is all there is.
    """
    path = path or result_path()
    written = True
    text = result.to_json()
    try:
        if path.exists() and (os.path.ismount(path) or not os.access(path.parent, os.W_OK)):
            _overwrite(path, text)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, text.encode())
    except OSError as error:
        try:
            _overwrite(path, text)
        except OSError:
            log("result-not-written", path=str(path), error=str(error))
            written = not is_no_space(error)
    log("result", document=text)
    return written


def _overwrite(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        if os.write(descriptor, text.encode()) < len(text.encode()):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
