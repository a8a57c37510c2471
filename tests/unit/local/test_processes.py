"""Trainers' processes, known by their locks."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from frostline_operator.local import processes
from frostline_operator.local.files import StudyFiles


def test_a_process_is_known_by_its_lock_and_outlives_whoever_started_it(tmp_path: Path) -> None:
    files = StudyFiles(tmp_path).run("r")
    assert processes.life(files) == "Absent"
    child = processes.start(files, ["-c", "import time; time.sleep(60)"], {"PATH": os.environ["PATH"]})
    assert processes.life(files) == "Alive"
    _wait(lambda: files.pid.exists())
    assert int(files.pid.read_text()) == child.pid
    processes.send(files, signal.SIGTERM)
    child.wait(10)
    assert processes.life(files) == "Dead"
    files.pid.write_text(str(os.getpid()))
    processes.send(files, signal.SIGTERM)  # a recycled id must not be signalled: this test would die


def test_a_folder_is_locked_by_one_holder_at_a_time(tmp_path: Path) -> None:
    with (
        processes.exclusive(tmp_path / "lock"),
        pytest.raises(processes.LockedError, match=str(os.getpid())),
        processes.exclusive(tmp_path / "lock"),
    ):
        pass
    with processes.exclusive(tmp_path / "lock"):
        pass


def _wait(done: object, seconds: float = 10) -> None:
    assert callable(done)
    until = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < until
        time.sleep(0.02)
